// Light or dark: as the system says, or as was chosen here.

const KEY = 'linkerd-theme';

export type Theme = 'system' | 'light' | 'dark';

export function chosen(): Theme {
  const kept = localStorage.getItem(KEY);
  return kept === 'light' || kept === 'dark' ? kept : 'system';
}

export function choose(theme: Theme): void {
  localStorage.setItem(KEY, theme);
  apply();
}

/** Tells the style sheet, and whoever draws with colours of its own. */
export function apply(): void {
  const theme = chosen();
  if (theme === 'system') {
    delete document.documentElement.dataset.theme;
  } else {
    document.documentElement.dataset.theme = theme;
  }
  dispatchEvent(new Event('linkerd:theme'));
}
