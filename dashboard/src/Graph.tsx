// Who talks to whom as a picture, and as a table that says the same. Entry: [`Graph`].

import { useEffect, useState } from 'preact/hooks';
import type { Edge, End, Graph as Edges } from './api';
import { amount, EdgesTable } from './EdgesTable';
import { key, path } from './figures';
import { layout } from './layout';
import { explain } from './reasons';
import { MOVED } from './route';

const NODE_WIDTH = 166;
const NODE_HEIGHT = 46;
const COLUMN = 304;
const ROW = 88;
const MARGIN = 24;
/** What ends of which nobody knows the workload are in the picture, and how they are called there. */
const UNKNOWN_CLIENT = '?';
const UNKNOWN_SERVER = '!';
const UNKNOWN_NAMES = new Map([
  [UNKNOWN_CLIENT, 'clients without proxy'],
  [UNKNOWN_SERVER, 'no workload'],
]);

export function Graph({ graph }: { graph: Edges }) {
  const [choice, setChoice] = useState(chosen);
  useEffect(() => {
    // The link to this page, on this page, leads to all of it.
    const moved = () => setChoice(chosen());
    addEventListener(MOVED, moved);
    addEventListener('popstate', moved);
    return () => {
      removeEventListener(MOVED, moved);
      removeEventListener('popstate', moved);
    };
  }, []);
  const namespaces = new Set(graph.edges.flatMap((it) => [it.src?.namespace ?? '', it.dst?.namespace ?? '']));
  const controlPlane = graph.control_plane_namespace;
  const edges = graph.edges.filter(({ src, dst }) => {
    const touches = (namespace: string) => src?.namespace === namespace || dst?.namespace === namespace;
    const hidden = !choice.controlPlane && choice.namespace !== controlPlane && touches(controlPlane);
    return !hidden && (choice.namespace === '' || touches(choice.namespace));
  });
  const plain = edges.filter((it) => !it.secured).length;
  const change = (next: Choice) => {
    setChoice(next);
    keep(next);
  };
  return (
    <>
      <h1 tabIndex={-1}>Who talks to whom</h1>
      <p class="choices">
        <label>
          Namespace
          <select
            value={choice.namespace}
            onChange={(event) =>
              change({ ...choice, namespace: (event.currentTarget as HTMLSelectElement).value })
            }
          >
            <option value="">all</option>
            {[...namespaces, choice.namespace]
              .filter((it, index, all) => it !== '' && all.indexOf(it) === index)
              .sort()
              .map((it) => (
                <option key={it} value={it}>
                  {it}
                </option>
              ))}
          </select>
        </label>
        <label>
          <input
            type="checkbox"
            checked={choice.controlPlane}
            onChange={() => change({ ...choice, controlPlane: !choice.controlPlane })}
          />{' '}
          with the control plane, which collects figures from everybody
        </label>
      </p>
      {edges.length > 0 && (
        <>
          <p>
            Connections of the last ten minutes, closed ones included.{' '}
            {plain === 0 ? (
              'All are secured.'
            ) : (
              <>
                {plain} of {edges.length} pairs talk in plaintext:{' '}
                <a href="/unencrypted">what is not encrypted, and why</a>.
              </>
            )}
          </p>
          <Picture edges={edges} />
        </>
      )}
      <EdgesTable caption="The same as a table" edges={edges} />
    </>
  );
}

/** What is shown of the graph. */
interface Choice {
  /** Edges with an end in it; empty: all. */
  namespace: string;
  /** Whether edges of the control plane are shown. */
  controlPlane: boolean;
}

/** The choice in the URL, so that it can be sent to somebody. */
function chosen(): Choice {
  const query = new URLSearchParams(location.search);
  return { namespace: query.get('namespace') ?? '', controlPlane: query.has('control-plane') };
}

function keep({ namespace, controlPlane }: Choice): void {
  const query = new URLSearchParams();
  if (namespace) {
    query.set('namespace', namespace);
  }
  if (controlPlane) {
    query.set('control-plane', '');
  }
  const text = query.size > 0 ? `?${query}` : '';
  history.replaceState(null, '', location.pathname + text);
}

function Picture({ edges }: { edges: Edge[] }) {
  const from = ({ src }: Edge) => (src ? key(src) : UNKNOWN_CLIENT);
  const to = ({ dst }: Edge) => (dst ? key(dst) : UNKNOWN_SERVER);
  const links = edges.map((edge) => ({ from: from(edge), to: to(edge) }));
  const ends = new Map<string, End | null>();
  for (const edge of edges) {
    ends.set(from(edge), edge.src);
    ends.set(to(edge), edge.dst);
  }
  const places = layout(links);
  const top = Math.min(...places.map((it) => it.row));
  const spots = new Map(
    places.map((it) => [
      it.id,
      { x: MARGIN + it.column * COLUMN, y: MARGIN + (it.row - top) * ROW },
    ]),
  );
  const width = Math.max(...[...spots.values()].map((it) => it.x)) + NODE_WIDTH + MARGIN;
  const height = Math.max(...[...spots.values()].map((it) => it.y)) + NODE_HEIGHT + MARGIN;
  const pairs = new Map<string, Edge[]>();
  for (const edge of edges) {
    const pair = `${from(edge)} ${to(edge)}`;
    pairs.set(pair, [...(pairs.get(pair) ?? []), edge]);
  }
  return (
    <div class="scroll picture">
      <svg width={width} height={height} role="group" aria-label="Graph; the table below says the same">
        <defs>
          {['good', 'warn'].map((it) => (
            <marker
              key={it}
              id={`arrow-${it}`}
              class={it}
              viewBox="0 0 8 8"
              refX="7"
              refY="4"
              markerWidth="8"
              markerHeight="8"
              orient="auto"
            >
              <path d="M0,0 L8,4 L0,8 Z" />
            </marker>
          ))}
        </defs>
        {[...pairs].flatMap(([pair, same]) =>
          same.map((edge, index) => (
            <Arrow
              key={`${pair} ${edge.no_tls_reason}`}
              edge={edge}
              from={spots.get(from(edge))}
              to={spots.get(to(edge))}
              shift={(index - (same.length - 1) / 2) * 22}
            />
          )),
        )}
        {[...spots].map(([name, { x, y }]) => (
          <Node key={name} end={ends.get(name) ?? null} unknown={UNKNOWN_NAMES.get(name) ?? ''} x={x} y={y} />
        ))}
      </svg>
    </div>
  );
}

interface Spot {
  x: number;
  y: number;
}

function Arrow({ edge, from, to, shift }: { edge: Edge; from?: Spot; to?: Spot; shift: number }) {
  if (!from || !to) {
    return null;
  }
  const back = to.x <= from.x;
  const start = { x: from.x + (back ? NODE_WIDTH / 2 : NODE_WIDTH), y: from.y + (back ? NODE_HEIGHT : NODE_HEIGHT / 2) };
  const end = { x: to.x + (back ? NODE_WIDTH / 2 : -2), y: to.y + (back ? NODE_HEIGHT + 2 : NODE_HEIGHT / 2) };
  const bend = back ? ROW * 0.7 : (end.x - start.x) / 2;
  const curve = back
    ? `C${start.x},${start.y + bend + shift} ${end.x + 1},${end.y + bend + shift} ${end.x + 1},${end.y}`
    : `C${start.x + bend},${start.y + shift} ${end.x - bend},${end.y + shift} ${end.x},${end.y}`;
  const middle = {
    x: (start.x + end.x) / 2,
    y: (start.y + end.y) / 2 + 0.75 * (back ? bend + shift : shift),
  };
  const look = edge.secured ? 'good' : 'warn';
  const label = edge.secured ? '√ TLS' : `‼ ${edge.no_tls_reason}`;
  const words = edge.secured ? 'mutual TLS' : `plaintext: ${explain(edge.no_tls_reason).means}`;
  return (
    <g class={`edge ${look}`}>
      <title>{`${words}; ${amount(edge)}`}</title>
      <path d={`M${start.x},${start.y} ${curve}`} marker-end={`url(#arrow-${look})`} />
      <text x={middle.x} y={middle.y - 7} text-anchor="middle">
        {label}
      </text>
    </g>
  );
}

interface NodeProps extends Spot {
  end: End | null;
  /** What it is called where there is no end. */
  unknown: string;
}

function Node({ end, unknown, x, y }: NodeProps) {
  const box = <rect x={x} y={y} width={NODE_WIDTH} height={NODE_HEIGHT} rx="8" />;
  if (!end) {
    return (
      <g class="node unknown">
        {box}
        <text x={x + NODE_WIDTH / 2} y={y + 28} text-anchor="middle">
          {unknown}
        </text>
      </g>
    );
  }
  return (
    <a href={path(end)} class="node">
      {box}
      <text x={x + NODE_WIDTH / 2} y={y + 20} text-anchor="middle" class="name">
        {short(end.name, 20)}
      </text>{' '}
      <text x={x + NODE_WIDTH / 2} y={y + 37} text-anchor="middle" class="kind">
        {short(`${end.namespace} ${end.kind}`, 26)}
      </text>
      <title>{`${end.namespace} ${end.kind}/${end.name}`}</title>
    </a>
  );
}

function short(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}
