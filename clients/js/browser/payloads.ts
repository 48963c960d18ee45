// What an attacker would call themselves, in the hope that some page takes it for HTML. Each sets `window.ran` if it runs.

const RUN = "window.ran=1";

export const PAYLOADS = [
  `<script>${RUN}</script>`,
  `</title><script>${RUN}</script>`,
  `</script><script>${RUN}</script>`,
  `<img src=x onerror=${RUN}>`,
  `"><img src=x onerror=${RUN}>`,
  `'><img src=x onerror=${RUN}>`,
  `<svg onload=${RUN}>`,
  `<svg><script>${RUN}</script></svg>`,
  `<svg><animate onbegin=${RUN} attributeName=x dur=1s>`,
  `<iframe srcdoc="<script>parent.ran=1</script>"></iframe>`,
  `<iframe src="javascript:parent.ran=1"></iframe>`,
  `<body onload=${RUN}>`,
  `<details open ontoggle=${RUN}>x</details>`,
  `<video><source onerror=${RUN}></video>`,
  `<audio src=x onerror=${RUN}>`,
  `<input autofocus onfocus=${RUN}>`,
  `<select autofocus onfocus=${RUN}></select>`,
  `<marquee onstart=${RUN}>x</marquee>`,
  `<object data="javascript:${RUN}"></object>`,
  `<embed src="javascript:${RUN}">`,
  `<a href="javascript:${RUN}" autofocus onfocus=${RUN}>x</a>`,
  `<math><mtext><table><mglyph><style><img src=x onerror=${RUN}></style></mglyph></table></mtext></math>`,
  `<style>@import 'javascript:${RUN}'; * { animation: a 1s }</style>`,
  `<link rel=stylesheet href="data:text/css,*{display:none}">`,
  `<meta http-equiv=refresh content="0;url=javascript:${RUN}">`,
  `<base href="javascript:${RUN}//">`,
  `<form><button formaction="javascript:${RUN}">x</button></form>`,
  `javascript:${RUN}`,
  `" onmouseover="${RUN}" autofocus onfocus="${RUN}" x="`,
  `\${${RUN}}{{constructor.constructor('${RUN}')()}}`,
  `&lt;img src=x onerror=${RUN}&gt;<!--><img src=x onerror=${RUN}>-->`,
  `\u202e<x onclick=${RUN}>\u2066]]>`,
];

/** As pictures: what the service refuses is put into the database behind its back. */
export const PICTURES = [
  `javascript:${RUN}`,
  `data:text/html,<script>${RUN}</script>`,
  `data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg" onload="${RUN}"><script>${RUN}</script></svg>`,
  `https://127.0.0.1:1/"onerror="${RUN}`,
  `https://127.0.0.1:1/'><script>${RUN}</script>`,
  `x" onerror="${RUN}`,
];
