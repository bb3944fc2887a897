// Where the nodes of the graph stand: clients to the left of their servers, few crossings. Pure.

export interface Link {
  from: string;
  to: string;
}

export interface Place {
  id: string;
  column: number;
  row: number;
}

/** Sweeps over the columns; more of them change little. */
const SWEEPS = 6;

/**
 * Places every node that a link names. Links that would lead back to a client of the same chain do not push
 * it to the right, so cycles end.
 */
export function layout(links: Link[]): Place[] {
  const ids = [...new Set(links.flatMap(({ from, to }) => [from, to]))].sort();
  const targets = new Map(ids.map((id) => [id, new Set<string>()]));
  for (const { from, to } of links) {
    if (from !== to) {
      targets.get(from)?.add(to);
    }
  }
  const columns = ranks(ids, targets);
  const rows: string[][] = [];
  for (const id of ids) {
    const column = columns.get(id) ?? 0;
    rows[column] = [...(rows[column] ?? []), id];
  }
  const neighbours = new Map(ids.map((id) => [id, [] as string[]]));
  for (const [from, tos] of targets) {
    for (const to of tos) {
      neighbours.get(from)?.push(to);
      neighbours.get(to)?.push(from);
    }
  }
  const place = new Map<string, number>();
  const number = () => {
    for (const column of rows) {
      column.forEach((id, index) => place.set(id, index - (column.length - 1) / 2));
    }
  };
  number();
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    for (const column of sweep % 2 === 0 ? rows : [...rows].reverse()) {
      const middle = (id: string) => {
        const near = neighbours.get(id) ?? [];
        const sum = near.reduce((total, it) => total + (place.get(it) ?? 0), 0);
        return near.length === 0 ? (place.get(id) ?? 0) : sum / near.length;
      };
      const middles = new Map(column.map((id) => [id, middle(id)]));
      column.sort((a, b) => (middles.get(a) ?? 0) - (middles.get(b) ?? 0));
      number();
    }
  }
  return ids.map((id) => ({ id, column: columns.get(id) ?? 0, row: place.get(id) ?? 0 }));
}

/** The longest chain of clients before each node. */
function ranks(ids: string[], targets: Map<string, Set<string>>): Map<string, number> {
  const sources = new Map(ids.map((id) => [id, 0]));
  const forward = withoutCycles(ids, targets);
  for (const tos of forward.values()) {
    for (const to of tos) {
      sources.set(to, (sources.get(to) ?? 0) + 1);
    }
  }
  const rank = new Map(ids.map((id) => [id, 0]));
  const ready = ids.filter((id) => sources.get(id) === 0);
  for (let next = ready.shift(); next !== undefined; next = ready.shift()) {
    for (const to of forward.get(next) ?? []) {
      rank.set(to, Math.max(rank.get(to) ?? 0, (rank.get(next) ?? 0) + 1));
      const left = (sources.get(to) ?? 0) - 1;
      sources.set(to, left);
      if (left === 0) {
        ready.push(to);
      }
    }
  }
  return rank;
}

/** The same links without those that close a cycle. Depth first, with a stack: chains may be long. */
function withoutCycles(ids: string[], targets: Map<string, Set<string>>): Map<string, string[]> {
  const forward = new Map(ids.map((id) => [id, [] as string[]]));
  const state = new Map<string, 'open' | 'done'>();
  // Nobody's servers first: chains begin at their clients.
  const called = new Set([...targets.values()].flatMap((tos) => [...tos]));
  const starts = [...ids.filter((id) => !called.has(id)), ...ids.filter((id) => called.has(id))];
  for (const start of starts) {
    if (state.has(start)) {
      continue;
    }
    state.set(start, 'open');
    const stack = [{ id: start, left: [...(targets.get(start) ?? [])] }];
    for (let top = stack.at(-1); top; top = stack.at(-1)) {
      const to = top.left.shift();
      if (to === undefined) {
        state.set(top.id, 'done');
        stack.pop();
        continue;
      }
      if (state.get(to) === 'open') {
        continue;
      }
      forward.get(top.id)?.push(to);
      if (!state.has(to)) {
        state.set(to, 'open');
        stack.push({ id: to, left: [...(targets.get(to) ?? [])] });
      }
    }
  }
  return forward;
}
