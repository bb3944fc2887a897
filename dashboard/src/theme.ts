// Light or dark: as the system says, or as was chosen here.

const KEY = 'linkerd-theme';

export type Theme = 'system' | 'light' | 'dark';

/** What was chosen, for as long as this page is open. */
let theme: Theme = kept();

export function chosen(): Theme {
  return theme;
}

export function choose(choice: Theme): void {
  theme = choice;
  try {
    localStorage.setItem(KEY, choice);
  } catch {
    // The browser keeps nothing for this page: the next one is as the system says.
  }
  apply();
}

function kept(): Theme {
  try {
    const word = localStorage.getItem(KEY);
    return word === 'light' || word === 'dark' ? word : 'system';
  } catch {
    return 'system';
  }
}

/** Tells the style sheet, and whoever draws with colours of its own. */
export function apply(): void {
  if (theme === 'system') {
    delete document.documentElement.dataset.theme;
  } else {
    document.documentElement.dataset.theme = theme;
  }
  dispatchEvent(new Event('linkerd:theme'));
}
