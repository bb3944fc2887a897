import { expect, test } from 'vitest';
import { layout, type Link } from '../src/layout';

function columns(links: Link[]): Record<string, number> {
  return Object.fromEntries(layout(links).map((it) => [it.id, it.column]));
}

test('servers stand to the right of all their clients', () => {
  const links = [
    { from: 'bot', to: 'web' },
    { from: 'web', to: 'emoji' },
    { from: 'web', to: 'voting' },
    { from: 'bot', to: 'voting' },
  ];
  expect(columns(links)).toEqual({ bot: 0, web: 1, emoji: 2, voting: 2 });
});

test('a cycle and a node that talks to itself have places too', () => {
  const links = [
    { from: 'client', to: 'a' },
    { from: 'a', to: 'b' },
    { from: 'b', to: 'a' },
    { from: 'b', to: 'b' },
  ];
  expect(columns(links)).toEqual({ client: 0, a: 1, b: 2 });
});

test('no two nodes stand at the same place, and nothing is nowhere', () => {
  const links = Array.from({ length: 40 }, (_, index) => ({
    from: `n${index % 7}`,
    to: `n${(index * 5 + 3) % 23}`,
  }));
  const places = layout(links).map((it) => `${it.column} ${it.row}`);
  expect(new Set(places).size).toBe(places.length);
  expect(layout([])).toEqual([]);
});

test('servers stand beside their clients, so that lines do not cross', () => {
  const links = [
    { from: 'a', to: 'z' },
    { from: 'b', to: 'y' },
  ];
  const row = new Map(layout(links).map((it) => [it.id, it.row]));
  expect([row.get('z'), row.get('y')]).toEqual([row.get('a'), row.get('b')]);
});
