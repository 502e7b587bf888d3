"""How a report looks: by day and by night, on wide and on narrow screens, and on paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --card: #f5f7fa; --ink: #16202c; --soft: #51606f; --line: #c9d2dc; --link: #1f5c99;
  --s0: #0060a8; --s1: #c04a00; --s2: #00805a; --s3: #9a4a86; --s4: #6b6b00;
  --note: #fff6df; --note-line: #c98a00; --band: #e9eef4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #12181f; --card: #1b242e; --ink: #e6ecf2; --soft: #a9b7c5; --line: #3a4856; --link: #8cc4ff;
    --s0: #6ab7ff; --s1: #ff9d5c; --s2: #4fd1a5; --s3: #e29bd0; --s4: #d9d45a;
    --note: #33290f; --note-line: #e0a83a; --band: #202b37;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
header, main, footer { max-width: 1320px; margin: 0 auto; padding: 0 1rem; overflow-wrap: anywhere; }
header { padding-top: 1.2rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .6rem; }
h2 { font-size: 1.3rem; margin: 2.2rem 0 .6rem; padding-top: .8rem; border-top: 2px solid var(--line); }
h3 { font-size: 1.08rem; margin: 1.4rem 0 .4rem; }
h4 { font-size: 1rem; margin: 1rem 0 .3rem; }
p { margin: .4rem 0; max-width: 85ch; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible, .scroll:focus-visible { outline: 3px solid var(--s1); outline-offset: 2px; }
.verdict { font-size: 1.2rem; font-weight: 600; padding: .8rem 1rem; margin: .6rem 0; max-width: none;
  background: var(--card); border-left: 6px solid var(--s0); border-radius: 6px; }
.note { padding: .5rem .8rem; background: var(--note); border-left: 4px solid var(--note-line); border-radius: 4px; }
.missing { color: var(--soft); font-style: italic; }
.soft { color: var(--soft); font-size: .92rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; list-style: none; padding: 0; margin: .6rem 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .6rem; margin: .8rem 0; }
.cards > div { background: var(--card); border-radius: 6px; padding: .5rem .8rem; display: flex; flex-direction: column;
  justify-content: space-between; }
.cards dt { color: var(--soft); font-size: .85rem; }
.cards dd { margin: 0; font-size: 1.15rem; font-weight: 600; overflow-wrap: anywhere; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 23rem), 1fr)); gap: 1rem;
  align-items: start; }
.grid > *, .wide { min-width: 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1rem;
  align-items: start; }
figure { margin: 0; background: var(--card); border-radius: 6px; padding: .6rem; }
figcaption { font-size: .92rem; margin-bottom: .3rem; }
figcaption strong { display: block; }
figure > img { width: 100%; height: auto; display: block; background: #ffffff; border-radius: 3px; }
svg { width: 100%; height: auto; display: block; color: var(--ink); }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .soft { fill: var(--soft); font-size: 11px; }
svg .axis { stroke: var(--soft); stroke-width: 1; fill: none; }
svg .tick { stroke: var(--line); stroke-width: 1; }
svg .band { fill: var(--band); }
svg .mark { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 5 3; }
svg .curve { fill: none; stroke-width: 2; }
svg .spread { stroke: none; opacity: .3; }
svg .plate { fill: var(--card); opacity: .85; }
.c0 { stroke: var(--s0); fill: var(--s0); } .c1 { stroke: var(--s1); fill: var(--s1); stroke-dasharray: 7 3; }
.c2 { stroke: var(--s2); fill: var(--s2); stroke-dasharray: 2 3; }
.c3 { stroke: var(--s3); fill: var(--s3); stroke-dasharray: 9 3 2 3; }
.c4 { stroke: var(--s4); fill: var(--s4); stroke-dasharray: 4 2; }
.p0 { stroke: #0072b2; fill: #0072b2; } .p1 { stroke: #d55e00; fill: #d55e00; stroke-dasharray: 7 3; }
circle, .square, .whisker { stroke-dasharray: none; }
.whisker { stroke-width: 2; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem .9rem; list-style: none; margin: .3rem 0 0; padding: 0;
  font-size: .88rem; }
.legend svg { display: inline-block; width: 28px; height: 10px; margin-right: .3rem; vertical-align: middle; }
.legend .swatch { display: inline-block; width: 14px; height: 14px; margin-right: .3rem; vertical-align: middle;
  border: 1px solid var(--soft); }
.scale { display: flex; align-items: center; gap: .5rem; font-size: .85rem; margin-top: .3rem; }
.scale img { flex: 1; height: 12px; min-width: 3rem; max-width: 12rem; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .92rem; }
caption { text-align: left; color: var(--soft); padding-bottom: .2rem; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .7rem; vertical-align: top; }
thead th { border-bottom: 2px solid var(--line); }
.figures th:first-child, .text th, .text td { text-align: left; }
.figures td, .figures thead th { text-align: right; font-variant-numeric: tabular-nums; }
.figures td, .figures tbody th { white-space: nowrap; overflow-wrap: normal; }
.figures thead th { overflow-wrap: normal; word-break: normal; }
.figures tbody th { font-weight: 500; }
.text { width: 100%; } .text tbody th { font-weight: 500; }
.text td { overflow-wrap: anywhere; min-width: 7rem; }
.text tbody th { overflow-wrap: anywhere; min-width: 8rem; max-width: 24rem; }
details { margin: .6rem 0; } summary { cursor: pointer; color: var(--link); padding: .2rem 0; }
details.run { border: 1px solid var(--line); border-radius: 6px; padding: .4rem 1rem; }
details.run > summary { font-size: 1.15rem; font-weight: 600; }
pre { background: var(--card); padding: .8rem; overflow-x: auto; font-size: .85rem; border-radius: 6px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 33rem), 1fr)); gap: .8rem; }
.tile ul { display: grid; grid-template-columns: repeat(auto-fit, minmax(5.8rem, 1fr)); gap: .35rem;
  list-style: none; padding: 0; margin: 0; }
.tile li { font-size: .8rem; text-align: center; color: var(--soft); }
.tile img { width: 100%; image-rendering: pixelated; display: block; border: 1px solid var(--line); }
footer { padding: 2rem 1rem; color: var(--soft); font-size: .85rem; }
@media (max-width: 30rem) {
  h1 { font-size: 1.35rem; } .verdict { font-size: 1.05rem; } th, td { padding: .2rem .45rem; }
  header, main, footer { padding-left: .7rem; padding-right: .7rem; } }
@media print { details { display: block; } nav { display: none; } }
"""
