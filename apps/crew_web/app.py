"""The Flask app of the crew's page."""

from __future__ import annotations

from flask import Flask, Response, g, make_response, render_template, request
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

from apps.common import log, manhole
from apps.common.layout import LayoutError
from apps.common.web import Problem, check_in_time, health_blueprint, loading
from apps.crew_web import actions, content_pages, guard, login, media_pages, onboard, pages, texts
from apps.crew_web.crew import CrewFileError
from apps.crew_web.languages import CatalogueError
from apps.crew_web.service import CrewWeb
from apps.crew_web.settings import CrewWebSettings
from apps.crew_web.store import StoreError

MAX_FORM = 64 * 1024


def create_app(settings: CrewWebSettings | None = None) -> Flask:
    """The app; its settings come from the environment unless given.

    ``app.extensions["crew_web"].close()`` stops what it started. Where a setting or a file is
    wrong, the process ends with a line that names it.
    """
    with loading("crew_web", LayoutError, CrewFileError, CatalogueError, StoreError, OSError):
        settings = settings or CrewWebSettings.load()
        log.setup(settings.log_level)
        web = CrewWeb(settings)
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_FORM
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_FORM
    app.extensions["crew_web"] = web
    # nginx, the only one who can reach our socket, says whom it speaks for.
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=0)  # type: ignore[method-assign]
    _teach_templates(app, web)
    app.before_request(login.choose_language)
    app.before_request(check_in_time)
    app.after_request(guard.harden)
    app.register_blueprint(health_blueprint(web.health))
    app.register_blueprint(login.pages)
    app.register_blueprint(pages.pages)
    app.register_blueprint(media_pages.media_pages)
    app.register_blueprint(content_pages.content_pages)
    _answer_errors(app)
    web.start()
    manhole.open_if_wanted(app=app, web=web)
    return app


def _teach_templates(app: Flask, web: CrewWeb) -> None:
    app.jinja_env.add_extension("jinja2.ext.i18n")
    app.jinja_env.policies["ext.i18n.trimmed"] = True
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.install_gettext_callables(  # type: ignore[attr-defined]
        texts.gettext,
        lambda one, many, count: g.language.translations.ngettext(one, many, count),
        newstyle=True,
    )
    app.jinja_env.filters["quoted"] = texts.quoted
    app.jinja_env.globals.update(
        texts=texts,
        fields=actions.fields,
        languages=web.languages,
        layout=web.layout,
        parts=web.parts,
        seat_picture=web.seat_picture,
        percent=onboard.percent,
        registration=web.settings.registration,
        crew=web.crew,
        session=guard.current,
        describe=lambda selector: texts.selector(selector, web.layout),
    )


def _answer_errors(app: Flask) -> None:
    @app.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> Response:
        # What nginx shows while we do not answer asks again by GET, also where a form was sent.
        if error.code == 405 and request.method == "GET":
            return login.go_home()
        return say(error.code or 500)

    @app.errorhandler(Problem)
    def refuse_late(problem: Problem) -> Response:
        return say(problem.status)

    def say(code: int) -> Response:
        page = "_note.html" if request.headers.get("HX-Request") else "error.html"
        return make_response(render_template(page, text=texts.error(code)), code)

    @app.errorhandler(StoreError)
    def cannot_store(_: StoreError) -> Response:
        if request.endpoint == "login.check":
            return Response(status=503)
        return login.login_page(503, problem="store")
