"""An import of content against the commands that do a part of its work each."""
