// What the page tells: whether it is seen, whether somebody is at it, when it goes and comes back. Nothing outside a browser.

export interface PageListener {
  visible(visible: boolean): void;
  active(): void;
  online(): void;
  hide(): void;
  show(): void;
}

export function watchPage(on: PageListener): () => void {
  if (!globalThis.document) return () => {};
  const stop = new AbortController();
  const options = { signal: stop.signal, passive: true, capture: true };
  const look = () => on.visible(!document.hidden);
  document.addEventListener("visibilitychange", look, options);
  for (const kind of ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"]) {
    addEventListener(kind, on.active, options);
  }
  addEventListener("online", on.online, options);
  addEventListener("pagehide", on.hide, options);
  // Out of the back/forward cache: the page goes on as if nothing was, but it has left.
  addEventListener("pageshow", ({ persisted }) => persisted && on.show(), options);
  look();
  return () => stop.abort();
}
