"""The style sheet of `report.html` and of the pages of samples.

Light and dark follow the reader's system. The colors of series and entities are those of Okabe and
Ito (2008), darkened or lightened for contrast, which color-blind readers can distinguish; labels
and dashes repeat what a color says.
"""

ENTITY_COLORS = 7
"""Number of colors of labeled spans: the classes e0, e1, ..."""

STYLE = """
:root { color-scheme: light dark; --page: #fff; --card: #f7f8fa; --text: #1d2330; --dim: #5c6675;
  --line: #dfe3e9; --accent: #0b62a4; --c0: #0b62a4; --c1: #b9530a; --c2: #00795a; --c3: #9a4f82;
  --heat: 11, 98, 164; --on-dark: #fff; --mark: 20%;
  --e0: #0b78b8; --e1: #d98200; --e2: #00906b; --e3: #c05a92; --e4: #c04a00; --e5: #7a6ad0;
  --e6: #8a8200; }
@media screen and (prefers-color-scheme: dark) {
  :root { --page: #14171c; --card: #1c2027; --text: #e4e7ec; --dim: #9aa4b2; --line: #333a45;
    --accent: #6db6f0; --c0: #6db6f0; --c1: #f0a35e; --c2: #4fc9a0; --c3: #dc9cc4;
    --heat: 109, 182, 240; --on-dark: #0b1118; --mark: 30%;
    --e0: #56b4e9; --e1: #e69f00; --e2: #2fc296; --e3: #dc9cc4; --e4: #ef7f3a; --e5: #a79bf0;
    --e6: #cfc53a; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 28px 20px 48px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0; font-weight: 650; overflow-wrap: anywhere; }
h2 { font-size: 18px; font-weight: 650; margin: 0 0 12px; }
h3 { font-size: 14px; font-weight: 600; margin: 20px 0 8px; }
section { margin-top: 40px; }
p { margin: 0 0 12px; }
.sub, .hint { color: var(--dim); }
.sub { margin: 4px 0 0; overflow-wrap: anywhere; }
.hint { font-size: 13px; max-width: 46em; }
nav { margin: 16px 0 0; display: flex; flex-wrap: wrap; gap: 2px 18px; font-size: 14px; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px;
  margin: 22px 0 0; }
.tiles > div { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 14px; }
.tiles dt { color: var(--dim); font-size: 13px; }
.tiles dd { margin: 0; } .tiles .value { font-size: 22px; font-weight: 600; line-height: 1.3;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.tiles .note { color: var(--dim); font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr));
  gap: 22px 20px; }
figure { margin: 0; min-width: 0; break-inside: avoid; }
* + figure { margin-top: 20px; } .charts > figure, .columns > figure { margin-top: 0; }
figcaption { font-size: 13px; font-weight: 600; margin-bottom: 4px; }
figcaption .dim, .dim { color: var(--dim); font-weight: 400; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(320px, 100%), 1fr));
  gap: 24px; align-items: start; } .columns > * { min-width: 0; }
.wide { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 16px 5px 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { font-weight: 400; } thead th { color: var(--dim); font-size: 13px; white-space: nowrap; }
th.n, td.n { text-align: right; white-space: nowrap; }
td:last-child, th:last-child { padding-right: 0; }
table.keys { width: 100%; } table.keys th { width: 34%; white-space: nowrap; }
table.keys td { overflow-wrap: anywhere; }
code, .keys td { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono",
  monospace; font-size: 13px; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 13px; }
.meter { display: inline-block; width: 72px; height: 8px; border-radius: 2px; margin-right: 8px;
  background: var(--line); vertical-align: 1px; }
.meter i { display: block; height: 100%; border-radius: 2px; background: var(--c0); }
.share { display: inline-block; min-width: 52px; }
details > summary { cursor: pointer; color: var(--accent); font-size: 14px; padding: 4px 0; }
details.text > summary { color: inherit; font-size: inherit; padding: 0; list-style: none; }
details.text > summary::-webkit-details-marker { display: none; }
details.text > summary::after { content: " show all"; color: var(--accent); font-size: 13px; }
details.text[open] > summary { font-size: 0; }
details.text[open] > summary::after { content: "show less"; }
.samples { display: grid; gap: 12px; }
.samples.images { grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); }
.images dl.texts { gap: 0 10px; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 14px; min-width: 0; break-inside: avoid; }
dl { margin: 0; }
dl.texts { display: grid; grid-template-columns: minmax(84px, max-content) minmax(0, 1fr);
  gap: 6px 16px; }
dl.texts dt { color: var(--dim); font-size: 13px; padding-top: 1px; }
dl.texts dd { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
article > div.text { white-space: pre-wrap; overflow-wrap: anywhere; }
dl.facts { display: flex; flex-wrap: wrap; gap: 2px 20px; margin-bottom: 6px; font-size: 13px; }
dl.facts div { display: flex; gap: 6px; } dl.facts dt { color: var(--dim); }
dl.facts dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
.tagged { line-height: 1.95; }
mark { color: inherit; border-radius: 4px; padding: 2px 5px; border: 1.5px solid transparent;
  background: color-mix(in srgb, var(--e) var(--mark), transparent);
  -webkit-box-decoration-break: clone; box-decoration-break: clone; }
mark b { font-size: 11px; font-weight: 600; margin-left: 6px; color: var(--dim); }
mark.wrong { border: 1.5px dashed var(--e); background: none; }
.e0 { --e: var(--e0); } .e1 { --e: var(--e1); } .e2 { --e: var(--e2); } .e3 { --e: var(--e3); }
.e4 { --e: var(--e4); } .e5 { --e: var(--e5); } .e6 { --e: var(--e6); }
img.pixels { display: block; min-width: 112px; max-width: 100%; margin-bottom: 8px;
  image-rendering: pixelated; border-radius: 4px; }
.overlays { display: flex; flex-wrap: wrap; gap: 8px; } .overlays image { image-rendering: auto; }
.overlays figcaption { font-weight: 400; text-align: center; } .overlay { fill: #d95f02; }
svg.chart { display: block; overflow: visible; font-size: 11px; } figure > svg.chart { width: 100%;
  height: auto; }
.columns > figure > svg.chart { max-width: 360px; }
svg text { fill: var(--dim); font-family: inherit; }
svg .label { font-size: 10.5px; }
svg .grid { stroke: var(--line); stroke-width: .75; } svg .axis { stroke: var(--dim);
  stroke-width: .75; }
svg .line { fill: none; stroke: var(--c); stroke-width: 1.6; stroke-linejoin: round; }
svg .dot { fill: var(--c); }
svg .best { fill: var(--page); stroke: var(--text); stroke-width: 1.8; }
svg .c0 { --c: var(--c0); } svg .c1 { --c: var(--c1); } svg .c2 { --c: var(--c2); }
svg .c3 { --c: var(--c3); }
svg .ideal { stroke: var(--dim); stroke-dasharray: 4 4; }
svg .bar { fill: var(--c0); } svg .point { fill: var(--c0); fill-opacity: .45; }
svg .cell { fill: rgb(var(--heat)); } svg .cell.same { stroke: var(--dim); stroke-width: 1; }
svg .on-dark { fill: var(--on-dark); } svg .on-light { fill: var(--text); }
@media (max-width: 560px) { main { padding: 20px 14px 36px; } .meter { width: 40px; }
  th, td { padding-right: 11px; } dl.texts { grid-template-columns:
  minmax(0, 1fr); gap: 0 0; } dl.texts dd { margin-bottom: 8px; }
  .tiles { grid-template-columns: 1fr 1fr; } table.keys th { white-space: normal;
  overflow-wrap: anywhere; } }
@media print { body { font-size: 11pt; } main { max-width: none; padding: 0; } nav { display: none;
  } section { margin-top: 24pt; } .wide { overflow: visible; } * { print-color-adjust: exact;
  -webkit-print-color-adjust: exact; } }
"""
