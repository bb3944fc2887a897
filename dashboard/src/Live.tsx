// Live requests of a workload: added up, and one by one. They come from `linkerd dashboard`, which taps with
// the rights of whoever runs it.

import { useEffect, useRef, useState } from 'preact/hooks';
import type { End } from './api';
import { Absent, lines } from './stream';
import { type Line, REQUESTS_MAX, Tap } from './tap';
import { RequestsTable, TopTable } from './LiveTables';

/** As often the tables follow what has come. */
const REDRAW_MS = 250;

/** Without it no tap begins: no other web site can send it to us. */
const HEADERS = { 'linkerd-dashboard-tap': '1' };

type Phase = 'off' | 'starting' | 'watching';

export function Live({ end }: { end: End }) {
  const tap = useRef(new Tap(end.namespace));
  /** What stands on the page: while it is paused, what stood there before. */
  const shown = useRef({ rows: tap.current.rows(), requests: tap.current.requests() });
  const running = useRef<AbortController | undefined>(undefined);
  const changed = useRef(false);
  const [phase, setPhase] = useState<Phase>('off');
  const [paused, setPaused] = useState(false);
  /** Why it is off; undefined before the first start. */
  const [said, setSaid] = useState<{ text: string; failed: boolean }>();
  const [absent, setAbsent] = useState(false);
  const [troubles, setTroubles] = useState<Record<string, string>>({});
  const [filters, setFilters] = useState({ method: '', path: '' });
  const [, redraw] = useState(0);

  const stop = (text: string, failed = false) => {
    running.current?.abort();
    running.current = undefined;
    setPhase('off');
    setPaused(false);
    setSaid({ text, failed });
  };
  const clear = () => {
    tap.current = new Tap(end.namespace);
    shown.current = { rows: [], requests: [] };
    setTroubles({});
    redraw((n) => n + 1);
  };
  const start = async () => {
    running.current?.abort();
    const controller = new AbortController();
    running.current = controller;
    clear();
    setAbsent(false);
    setPhase('starting');
    let why = 'the connection has ended';
    const each = (line: Line) => {
      if (line.trouble) {
        const { pod, error } = line.trouble;
        setTroubles((known) => withTrouble(known, pod, error));
      } else if (line.ended !== undefined) {
        why = line.ended;
      } else {
        tap.current.add(line, Date.now());
        changed.current = true;
        setTroubles((known) => withoutTroubleOf(known, line));
      }
    };
    const { namespace, kind, name } = end;
    const query = new URLSearchParams({ namespace, kind, name, ...filters });
    try {
      await lines(`/api/tap?${query}`, HEADERS, controller.signal, () => setPhase('watching'), each);
    } catch (error) {
      setAbsent(error instanceof Absent);
      why = error instanceof Error ? error.message : String(error);
    }
    if (running.current === controller) {
      stop(why, true);
    }
  };

  useEffect(() => {
    const hidden = () => {
      if (document.hidden && running.current) {
        stop('Stopped, because nobody looked at this page.');
      }
    };
    document.addEventListener('visibilitychange', hidden);
    return () => {
      document.removeEventListener('visibilitychange', hidden);
      running.current?.abort();
      running.current = undefined;
    };
  }, []);
  useEffect(() => {
    if (phase !== 'watching' || paused) {
      return;
    }
    const timer = setInterval(() => {
      if (changed.current) {
        changed.current = false;
        redraw((n) => n + 1);
      }
    }, REDRAW_MS);
    return () => clearInterval(timer);
  }, [phase, paused]);

  if (!paused) {
    shown.current = { rows: tap.current.rows(), requests: tap.current.requests() };
  }
  const { rows, requests } = shown.current;
  const change = (field: 'method' | 'path') => (event: Event) => {
    const { value } = event.currentTarget as HTMLInputElement;
    setFilters((known) => ({ ...known, [field]: value.trim() }));
  };
  return (
    <section aria-labelledby="live">
      <h2 id="live">Live requests</h2>
      <form
        class="live"
        onSubmit={(event) => {
          event.preventDefault();
          void start();
        }}
      >
        <label>
          Method
          <input name="method" size={8} placeholder="any" value={filters.method} onInput={change('method')} />
        </label>
        <label>
          Path begins with
          <input name="path" size={18} placeholder="/" value={filters.path} onInput={change('path')} />
        </label>
        <button type="submit">{phase === 'off' ? 'Watch' : 'Watch anew'}</button>
        <button type="button" disabled={phase === 'off'} onClick={() => stop('Stopped.')}>
          Stop
        </button>
        <button
          type="button"
          disabled={phase !== 'watching'}
          aria-pressed={paused}
          onClick={() => setPaused(!paused)}
        >
          Pause
        </button>
        <button type="button" disabled={requests.length === 0} onClick={clear}>
          Clear
        </button>
      </form>
      <p role="status" class={said?.failed && phase === 'off' && !absent ? 'failure' : undefined}>
        {status(phase, paused, said)}
      </p>
      {absent && <HowToGetIt />}
      {Object.entries(troubles).map(([pod, error]) => (
        <p class="warn" key={pod}>
          Pod {pod} cannot be watched: {error}
        </p>
      ))}
      {rows.length > 0 && <TopTable rows={rows} />}
      {requests.length > 0 && <RequestsTable requests={requests} />}
      <p class="detail">
        The last {REQUESTS_MAX} requests are kept, in this page alone. Whoever runs <code>linkerd dashboard</code> needs
        the right to tap. In a terminal: <code>linkerd tap {end.kind}/{end.name} -n {end.namespace}</code>, or{' '}
        <code>linkerd top</code>.
      </p>
    </section>
  );
}

/** Pods come and go while a workload is rolled out. */
const TROUBLES_MAX = 10;

function withTrouble(known: Record<string, string>, pod: string, error: string): Record<string, string> {
  const others = Object.entries(known).filter(([name]) => name !== pod);
  return Object.fromEntries([...others, [pod, error] as const].slice(-TROUBLES_MAX));
}

/** A pod that tells something can be watched again. */
function withoutTroubleOf(known: Record<string, string>, line: Line): Record<string, string> {
  const told = line.proxyDirection === 'INBOUND' ? line.destination : line.source;
  const { namespace, pod: name } = told?.metadata ?? {};
  const pod = `${namespace}/${name}`;
  if (!(pod in known)) {
    return known;
  }
  return Object.fromEntries(Object.entries(known).filter(([name]) => name !== pod));
}

function status(phase: Phase, paused: boolean, said: { text: string; failed: boolean } | undefined): string {
  if (phase === 'starting') {
    return 'Asking for the right to watch …';
  }
  if (phase === 'watching') {
    return paused ? 'Paused: the tables stand still, and requests go on being counted.' : 'Watching.';
  }
  if (!said) {
    return 'Nothing is watched yet.';
  }
  return said.failed && said.text ? `Not watching: ${said.text}` : said.text;
}

function HowToGetIt() {
  return (
    <p class="failure">
      This page came by a port-forward of its own, and <code>linkerd-api</code> cannot know who looks at it. Open it with{' '}
      <code>linkerd dashboard</code>, which watches with your rights.
    </p>
  );
}
