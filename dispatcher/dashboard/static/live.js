// Keeps a page as it is now: the server says that something has changed, the page fetches itself and takes over
// the regions that differ. What was opened or closed stays so, and the focus stays where it was.
import { localTimes } from './times.js';

const PAUSE_MS = 300; // several changes in a row are one

export function follow(main) {
  if (!main?.dataset.live || !window.EventSource) return;
  let source = null;
  let timer = null;
  let last = null;
  const changed = (event) => {
    if (event.data === last) return;
    last = event.data;
    timer ??= setTimeout(async () => {
      timer = null;
      await refresh(main);
    }, PAUSE_MS);
  };
  const open = () => {
    source = new EventSource(main.dataset.live);
    source.addEventListener('ready', changed);
    source.addEventListener('changed', changed);
  };
  document.addEventListener('visibilitychange', () => {
    source?.close();
    source = null;
    if (!document.hidden) open();
  });
  window.addEventListener('pagehide', () => source?.close());
  if (!document.hidden) open();
}

async function refresh(main) {
  let response;
  try {
    response = await fetch(location.href, { headers: { Accept: 'text/html' } });
  } catch {
    return; // the network is away; the next change tries again
  }
  if (response.redirected) location.reload(); // logged out meanwhile
  if (!response.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), 'text/html');
  for (const region of main.querySelectorAll('[data-region]')) {
    const next = fresh.querySelector(`[data-region="${region.dataset.region}"]`);
    if (next) replace(region, next);
  }
}

function replace(region, next) {
  const source = next.innerHTML;
  if (region.dataset.source === source) return;
  const open = new Map([...region.querySelectorAll('details[id]')].map((one) => [one.id, one.open]));
  const focused = region.contains(document.activeElement) ? document.activeElement : null;
  const href = focused?.getAttribute('href');
  region.replaceChildren(...next.childNodes);
  region.dataset.source = source;
  for (const one of region.querySelectorAll('details[id]')) one.open = open.get(one.id) ?? one.open;
  localTimes(region);
  if (focused) (href && region.querySelector(`[href="${CSS.escape(href)}"]`))?.focus();
}
