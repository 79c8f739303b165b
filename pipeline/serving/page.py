"""The page to try a model by hand: one HTML file that loads nothing from other servers."""

from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files

from pipeline.inference.model import Model
from pipeline.report.style import STYLE

SCRIPT = (files(__package__) / "page.js").read_text(encoding="utf-8")
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
    f"script-src 'sha256-{b64encode(sha256(SCRIPT.encode()).digest()).decode()}'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""Content security policy: only this script runs, and it can only send requests to this server."""
PAGE_STYLE = """
form { margin-top: 20px; }
label { display: block; font-size: 13px; color: var(--dim); margin: 12px 0 4px; }
textarea { width: 100%; min-height: 96px; resize: vertical; padding: 10px 12px; font: inherit;
  color: inherit; background: var(--card); border: 1px solid var(--dim); border-radius: 8px; }
button { font: inherit; font-weight: 600; padding: 8px 18px; margin: 12px 12px 0 0; border: 0;
  border-radius: 8px; background: var(--accent); color: var(--page); cursor: pointer; }
button[aria-disabled] { opacity: .6; cursor: default; }
textarea:focus-visible, button:focus-visible, summary:focus-visible, .wide:focus-visible {
  outline: 3px solid var(--accent); outline-offset: 2px; }
.answer { font-size: 22px; font-weight: 600; margin: 0 0 8px; overflow-wrap: anywhere; }
.error { border-left: 4px solid var(--c1); padding: 6px 12px; background: var(--card);
  overflow-wrap: anywhere; }
kbd { font: inherit; border: 1px solid var(--line); border-radius: 4px; padding: 0 5px; }
#result { margin-top: 24px; } #result + details { margin-top: 16px; }
"""


def render(model: Model) -> str:
    """Return the page of a model, with a text field for each column that it reads."""
    facts = model.trained.files
    name = escape(facts.folder.name)
    fields = "".join(
        f"<label for='field-{i}'>{escape(column)}</label><textarea id='field-{i}' "
        f"name='{escape(column)}' dir='auto' spellcheck='false'{' autofocus' * (i == 0)}>"
        "</textarea>"
        for i, column in enumerate(model.columns)
    )
    task = escape(model.task.replace("_", " "))
    return (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{name}</title>\n"
        f"<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<link rel='icon' href='data:,'>\n"
        f"<style>{STYLE}{PAGE_STYLE}</style></head>\n<body><main>\n<header><h1>{name}</h1>\n"
        f"<p class='sub'>{task} · step {facts.step:,}</p></header>\n"
        f"<form>{fields}\n<button>Predict</button> <span class='hint'><kbd>Ctrl</kbd> + "
        f"<kbd>Enter</kbd> <span id='state' role='status'></span></span></form>\n"
        f"<section id='result' aria-live='polite' aria-label='prediction'></section>\n"
        f"<details hidden><summary>JSON</summary><pre id='json'></pre></details>\n"
        f"<p class='hint'>Programs send <code>POST /predict</code> with <code>"
        f"{{&quot;inputs&quot;: [...]}}</code>.</p>\n"
        f"</main><script>{SCRIPT}</script></body></html>\n"
    )
