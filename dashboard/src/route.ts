// Which part of the page a URL means. Entries: [`parse`], [`useRoute`].

import { useEffect, useState } from 'preact/hooks';

export type Route =
  | { page: 'overview' }
  | { page: 'graph' }
  | { page: 'unencrypted' }
  | { page: 'namespace'; namespace: string }
  | { page: 'workload'; namespace: string; kind: string; name: string }
  | { page: 'absent' };

export function parse(path: string): Route {
  let parts: string[];
  try {
    parts = path.split('/').filter(Boolean).map(decodeURIComponent);
  } catch {
    return { page: 'absent' };
  }
  const [first, namespace, kind, name] = parts;
  if (first === undefined) {
    return { page: 'overview' };
  }
  if (parts.length === 1 && (first === 'graph' || first === 'unencrypted')) {
    return { page: first };
  }
  if (first !== 'namespaces' || namespace === undefined) {
    return { page: 'absent' };
  }
  if (parts.length === 2) {
    return { page: 'namespace', namespace };
  }
  if (parts.length === 4 && kind !== undefined && name !== undefined) {
    return { page: 'workload', namespace, kind, name };
  }
  return { page: 'absent' };
}

/** The URL is another one now, by a link within the page. */
export const MOVED = 'linkerd:moved';

/** Follows links within the page without loading it anew, and keeps what it has seen. */
export function followLinks(): void {
  document.addEventListener('click', (event) => {
    const link = (event.target as Element | null)?.closest('a');
    const modified = event.metaKey || event.ctrlKey || event.shiftKey || event.altKey;
    // A link in a picture has no `origin`, so its text is read.
    const target = link?.getAttribute('href');
    if (!target || event.button !== 0 || modified || event.defaultPrevented) {
      return;
    }
    const url = new URL(target, location.href);
    if (url.origin !== location.origin || (url.hash && url.pathname === location.pathname)) {
      return;
    }
    event.preventDefault();
    if (url.href !== location.href) {
      history.pushState(null, '', url);
      dispatchEvent(new Event(MOVED));
    }
  });
}

/** The route of the URL as it is now. After a move the new heading has the focus, as after a load. */
export function useRoute(): Route {
  const [path, setPath] = useState(location.pathname);
  useEffect(() => {
    const moved = () => {
      setPath(location.pathname);
      scrollTo(0, 0);
      requestAnimationFrame(() => document.querySelector<HTMLElement>('h1')?.focus());
    };
    addEventListener(MOVED, moved);
    addEventListener('popstate', moved);
    return () => {
      removeEventListener(MOVED, moved);
      removeEventListener('popstate', moved);
    };
  }, []);
  return parse(path);
}
