import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { explain, REASON_WORDS } from '../src/reasons';

test('the reasons are explained in the words of the documentation', () => {
  const text = readFileSync(new URL('../../docs/automatic-tls.md', import.meta.url), 'utf8');
  const rows = [...text.matchAll(/^\| `(\w+)` \| (.+) \| (.+) \|$/gm)];
  const documented = new Map(rows.map(([, word, means, todo]) => [word, { means, todo }]));
  expect(REASON_WORDS.length).toBeGreaterThan(0);
  for (const word of REASON_WORDS) {
    const plain = (value?: string) => value?.replaceAll('`', '');
    const found = documented.get(word);
    expect({ means: plain(found?.means), todo: plain(found?.todo) }, word).toEqual(explain(word));
  }
});

test('every reason that proxies know is explained', () => {
  const source = readFileSync(
    new URL('../../crates/linkerd-names/src/tls.rs', import.meta.url),
    'utf8',
  );
  const words = source.slice(source.indexOf('fn as_str')).matchAll(/=> "(\w+)"/g);
  expect([...words].map(([, word]) => word).sort()).toEqual([...REASON_WORDS].sort());
});
