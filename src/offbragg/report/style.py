"""How pages look: light and dark, narrow and wide, on paper."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1c2126; --soft: #5b6570; --line: #dde2e7; --paper: #ffffff; --card: #f5f7f9;
  --link: #0b5cad; --warning: #b45309; --warning-back: #fdf3e3; --good: #18794e;
  --good-back: #eaf6ef; --remark: #33658a; --remark-back: #ebf2f8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e8ec; --soft: #9fabb7; --line: #38414b; --paper: #15191e; --card: #1e242b;
    --link: #7db8f0; --warning: #f0b050; --warning-back: #33280f; --good: #6fcf97;
    --good-back: #14291d; --remark: #8fbfe6; --remark-back: #182634;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body {
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  color: var(--ink); background: var(--paper); max-width: 70rem; margin: 0 auto;
  padding: 2rem 1.25rem 4rem;
}
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 0.4rem; }
h2 {
  font-size: 1.35rem; margin: 2.8rem 0 0.6rem; padding-top: 0.5rem;
  border-top: 2px solid var(--line);
}
h3 { font-size: 1.12rem; margin: 2rem 0 0.4rem; }
h4 { font-size: 1rem; margin: 1.4rem 0 0.3rem; }
p { max-width: 46rem; margin: 0.5rem 0; }
a { color: var(--link); }
code { font-size: 0.86em; overflow-wrap: anywhere; }
.lead { color: var(--soft); margin-bottom: 1.2rem; }
nav {
  background: var(--card); border-radius: 8px; padding: 0.8rem 1.1rem; margin: 1.4rem 0;
  font-size: 0.95rem;
}
nav p { font-weight: 600; margin: 0 0 0.3rem; }
nav ul { margin: 0; padding-left: 1.1rem; columns: 16rem; column-gap: 2rem; }
nav ul ul { columns: auto; }
nav li { break-inside: avoid; padding: 0.1rem 0; }
nav > ul > li:first-child { padding-top: 0; }
nav > ul > li { break-inside: auto; }
.scroll { overflow-x: auto; margin: 0.9rem 0; }
table {
  border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums;
}
caption { text-align: left; font-weight: 600; padding: 0 0 0.35rem; }
th, td { text-align: left; vertical-align: top; padding: 0.24rem 0.95rem 0.24rem 0; }
th { font-weight: 600; vertical-align: bottom; border-bottom: 2px solid var(--line); }
td { border-bottom: 1px solid var(--line); overflow-wrap: break-word; }
td:first-child, td.n { white-space: nowrap; }
@media (max-width: 40rem) { table { font-size: 0.85rem; } td, th { padding-right: 0.6rem; } }
th.n, td.n { text-align: right; }
tr.total td { font-weight: 600; border-top: 2px solid var(--line); }
.meaning { color: var(--soft); font-size: 0.88rem; margin: -0.35rem 0 1.2rem; max-width: 58rem; }
.meaning b { color: var(--ink); font-weight: 600; }
figure { margin: 1.1rem 0; break-inside: avoid; }
figcaption { color: var(--soft); font-size: 0.9rem; margin-top: 0.35rem; max-width: 46rem; }
img {
  max-width: 100%; height: auto; background: #fff; border-radius: 6px; display: block;
  border: 1px solid var(--line);
}
.row { display: flex; flex-wrap: wrap; gap: 0 1.2rem; }
.row figure { flex: 1 1 20rem; max-width: 33rem; }
.row img { width: 100%; }
.finding {
  border-left: 5px solid var(--remark); background: var(--remark-back); border-radius: 0 6px 6px 0;
  padding: 0.5rem 0.9rem; margin: 0.5rem 0; max-width: none; break-inside: avoid;
}
.finding b { color: var(--remark); }
.note, .finding.warning { border-left-color: var(--warning); background: var(--warning-back); }
.finding.warning b { color: var(--warning); }
.finding.good { border-left-color: var(--good); background: var(--good-back); }
.finding.good b { color: var(--good); }
.note { border-left: 5px solid var(--warning); border-radius: 0 6px 6px 0; padding: 0.5rem 0.9rem; }
details { margin: 0.6rem 0; }
summary { cursor: pointer; color: var(--link); }
footer {
  color: var(--soft); font-size: 0.85rem; margin-top: 3rem; border-top: 1px solid var(--line);
}
@media print {
  :root {
    color-scheme: light;
    --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --card: #fff; --link: #000;
    --warning: #8a3f06; --warning-back: #fff; --good: #0f5c3a; --good-back: #fff;
    --remark: #24506f; --remark-back: #fff;
  }
  @page { size: A4; margin: 16mm 14mm; }
  html { font-size: 9.5pt; }
  body { font-size: 1rem; max-width: none; padding: 0; }
  nav { padding: 0; }
  a { text-decoration: none; }
  h2, h3, h4 { break-after: avoid; }
  h2 { margin-top: 1.6rem; }
  .scroll { overflow: visible; }
  table { font-size: 7.6pt; }
  th, td { padding: 0.14rem 0.55rem 0.14rem 0; }
  tr, .meaning { break-inside: avoid; }
  thead { display: table-header-group; }
  .row figure { flex: 0 1 47%; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""
