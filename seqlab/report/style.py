"""How the page looks, in the light and in the dark, and what it may do."""

# Nothing is fetched. The libraries' scripts are on the page; itables makes functions of text.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    "base-uri 'none'; form-action 'none'"
)

SWITCH = """\
<fieldset class="switch"><legend>Colours</legend>
<label><input type="radio" name="colours" id="system" checked>as the system</label>
<label><input type="radio" name="colours" id="light">light</label>
<label><input type="radio" name="colours" id="dark">dark</label>
</fieldset>"""

STYLE = """\
<style>
:root { color-scheme: light dark; }
:root:has(#light:checked) { color-scheme: light; }
:root:has(#dark:checked) { color-scheme: dark; }
:root {
  --page: light-dark(#ffffff, #15181c);
  --raised: light-dark(#f4f5f7, #20252b);
  --text: light-dark(#1c1f23, #d9dde2);
  --faint: light-dark(#5c636b, #9aa3ad);
  --rule: light-dark(#d5d9de, #394049);
  --accent: light-dark(#00609a, #6cb6e8);
}
body { background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 1280px; padding: 1.5em 2em 4em; }
h1 { font-size: 1.5em; line-height: 1.25; margin: 0; }
h2 { border-top: 1px solid var(--rule); font-size: 1.2em; margin: 2em 0 0.8em; padding-top: 1em; }
h3 { font-size: 1em; margin: 2em 0 0.2em; }
p { color: var(--faint); font-size: 0.87em; margin: 0.3em 0 0.6em; max-width: 85ch; }
p { overflow-wrap: anywhere; }
img { background: white; height: auto; max-width: 100%; padding: 8px; box-sizing: border-box; }
.switch { border: 0; color: var(--faint); float: right; font-size: 0.8em; margin: 0; padding: 0; }
.switch legend { float: left; padding: 0 0.6em 0 0; }
.switch label { margin-left: 0.6em; }
.switch input { margin: 0 0.3em 0 0; vertical-align: -0.15em; }
details { border-bottom: 1px solid var(--rule); padding: 0.4em 0; }
summary { cursor: pointer; font: 0.85em/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { background: var(--raised); font-size: 0.8em; overflow-x: auto; padding: 0.8em; }
.seqlab-table { color-scheme: inherit !important; margin-inline: 0 !important; }
.seqlab-table caption { display: none; } /* the heading above says it */
.seqlab-table :is(thead, tbody) { border-color: var(--rule) !important; }

/* plotly writes its colours into every element */
.js-plotly-plot .main-svg text { fill: var(--text) !important; }
.js-plotly-plot .gridlayer path { stroke: var(--rule) !important; }
.js-plotly-plot .cartesianlayer path:is([class*="zl"], [class*="tick"], [class*="lines-"]) {
  stroke: var(--faint) !important; }
.js-plotly-plot .legend .bg { fill: transparent !important; }
.js-plotly-plot .hoverlayer .hovertext path { fill: var(--raised) !important; }
.js-plotly-plot .modebar-group { background: transparent !important; }
.js-plotly-plot .modebar-btn path { fill: var(--faint) !important; }

/* DataTables looks for a class on the page, which a switch without a script cannot set */
:root:root {
  --dt-html-background: var(--page);
  --dt-row-stripe: 128, 136, 146;
  --dtcc-button-icon_color: var(--text);
  --dtcc-search-icon_color: var(--text);
  --dtcc-dropdown_background: var(--page);
  --dtcc-dropdown_border: 1px solid var(--faint);
  --dtcc-search-input_border: 1px solid var(--faint);
}
.dt-container { font-size: 0.85em; }
.dt-container table.dataTable :is(th, td) { padding: 0.25em 0.6em; }
.dt-container table.dataTable tr.dtrg-group th { font-style: italic; font-weight: normal; }
#comparison td { white-space: normal; }
.dt-container :is(input, select), .dtcc-dropdown :is(input, select) {
  background: var(--page) !important; border-color: var(--faint) !important;
  color: var(--text) !important; }
.dt-container table.dataTable :is(th, td) { border-color: var(--rule) !important; }
.dt-container .dt-paging .dt-paging-button { color: inherit !important; }
.dt-container .dt-paging .dt-paging-button:is(.current, :hover) {
  background: var(--raised) !important; border-color: var(--rule) !important; }
</style>"""
