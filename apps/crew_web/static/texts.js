// The page's words, handed over by the server in the crew member's language.

const strings = JSON.parse(document.getElementById("strings")?.textContent || "{}");

/**
 * The translation of `text`, with `{name}` replaced by values.name.
 * @param {string} text in English, as written in the sources
 * @param {Record<string, string | number>} [values]
 */
export function gettext(text, values = {}) {
  return (strings[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}
