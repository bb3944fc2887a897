// The events of a tap, put together to requests and connections, and added up. Entry: [`Tap`]. Pure, and bounded in memory.

/** One end of a request: its address, and what is known of who has that. */
interface Side {
  ip: string | null;
  port: number | null;
  metadata: Record<string, string>;
}

interface Span {
  seconds: number;
  nanos: number;
}

interface Id {
  base: number;
  stream: number;
}

/** A line of `/api/tap`: an event as `linkerd tap -o json` has it, or what became of the tap. */
export interface Line {
  source?: Side;
  destination?: Side;
  proxyDirection?: string;
  tls?: string;
  noTlsReason?: string;
  requestInitEvent?: { id: Id; method: string; authority: string; path: string };
  responseInitEvent?: { id: Id; httpStatus: number };
  responseEndEvent?: {
    id: Id;
    sinceRequestInit: Span | null;
    grpcStatusCode?: number;
    resetErrorCode?: number;
  };
  /** A connection that carries no HTTP. */
  connectionOpenEvent?: { id: Id; serverName?: string };
  connectionCloseEvent?: { id: Id; sinceOpen: Span | null; end: string; endedBy?: string; error?: string };
  trouble?: { pod: string; error: string };
  ended?: string;
}

/** A request, or a connection that carries none. */
export interface Request {
  id: string;
  /** When it was seen; milliseconds since 1970. */
  time: number;
  direction: string;
  source: string;
  destination: string;
  /** Of a connection [`CONNECTION`]. */
  method: string;
  /** Of a connection whom its own TLS asks for. */
  authority: string;
  /** Of a connection the port. */
  path: string;
  secured: boolean;
  /** Why it is plaintext; empty when it is secured. */
  reason: string;
  /** Null until the head of the response was seen. */
  status: number | null;
  /** Null until the response has ended. */
  milliseconds: number | null;
  /** How it ended, where the status does not say it; empty otherwise. */
  end: string;
  succeeded: boolean;
}

/** Requests that have all in common that is shown of them. */
export interface Row {
  source: string;
  destination: string;
  method: string;
  path: string;
  secured: boolean;
  reason: string;
  count: number;
  successes: number;
  best: number;
  worst: number;
  last: number;
}

export const REQUESTS_MAX = 200;
/** What stands for the method where there is none. */
const CONNECTION = 'TCP';
/** The row that has been idle for longest gives way to another one. */
const ROWS_MAX = 200;
/** Requests that have not ended: long streams, and those whose end was lost on the way. */
const OPEN_MAX = 2000;

/** Labels with the name of a workload, the one that people know first. */
const OWNERS = [
  'deployment',
  'daemonset',
  'statefulset',
  'replicaset',
  'replicationcontroller',
  'k8s_job',
  'cronjob',
  'pod',
];

export class Tap {
  /** The last ones, oldest first. */
  private last = new Map<string, Request>();
  private open = new Map<string, Request>();
  /** By what is shown, and by the side whose proxy told it: counted apart, shown once. */
  private counted = new Map<string, Map<string, Row>>();

  /** Names of `namespace` are shown without it. */
  constructor(private readonly namespace: string) {}

  /** Takes in one event. Kinds that are not known are passed over. */
  add(line: Line, time: number): void {
    if (line.requestInitEvent) {
      this.begin(line, line.requestInitEvent, time);
    } else if (line.responseInitEvent) {
      const request = this.open.get(id(line.responseInitEvent.id));
      if (request) {
        request.status = line.responseInitEvent.httpStatus;
      }
    } else if (line.responseEndEvent) {
      this.end(line.responseEndEvent);
    } else if (line.connectionOpenEvent) {
      const { id, serverName } = line.connectionOpenEvent;
      const path = `:${line.destination?.port ?? ''}`;
      this.begin(line, { id, method: CONNECTION, authority: serverName ?? '', path }, time, 'open');
    } else if (line.connectionCloseEvent) {
      this.close(line.connectionCloseEvent);
    }
  }

  /** The last requests, the latest first. */
  requests(): Request[] {
    return [...this.last.values()].reverse();
  }

  /** Who asks whom for what, the most frequent first. */
  rows(): Row[] {
    const rows = [...this.counted.values()].map((sides) => {
      // Where the proxies of both ends are watched: the one that has told of more requests.
      return [...sides.values()].reduce((most, it) => (it.count > most.count ? it : most));
    });
    return rows.sort((a, b) => b.count - a.count);
  }

  private begin(line: Line, init: NonNullable<Line['requestInitEvent']>, time: number, end = ''): void {
    const secured = line.tls === 'true';
    const request: Request = {
      id: id(init.id),
      time,
      direction: line.proxyDirection ?? '',
      source: this.name(line.source),
      destination: this.name(line.destination),
      method: init.method,
      authority: init.authority,
      path: init.path,
      secured,
      reason: secured ? '' : (line.noTlsReason ?? line.tls ?? 'unknown'),
      status: null,
      milliseconds: null,
      end,
      succeeded: true,
    };
    put(this.last, request.id, request, REQUESTS_MAX);
    put(this.open, request.id, request, OPEN_MAX);
  }

  private end(end: NonNullable<Line['responseEndEvent']>): void {
    const request = this.open.get(id(end.id));
    if (!request) {
      return;
    }
    if (end.resetErrorCode !== undefined) {
      request.end = `reset ${end.resetErrorCode}`;
    } else if (end.grpcStatusCode !== undefined) {
      request.end = `gRPC ${end.grpcStatusCode}`;
    }
    request.succeeded =
      end.resetErrorCode === undefined && !end.grpcStatusCode && (request.status ?? 0) < 500;
    this.finish(request, end.sinceRequestInit);
  }

  private close(close: NonNullable<Line['connectionCloseEvent']>): void {
    const connection = this.open.get(id(close.id));
    if (!connection) {
      return;
    }
    connection.succeeded = close.end === 'clean';
    const how = close.error ?? (close.endedBy ? `${close.end} by the ${close.endedBy}` : close.end);
    connection.end = connection.succeeded ? 'closed' : how;
    this.finish(connection, close.sinceOpen);
  }

  private finish(request: Request, took: Span | null): void {
    this.open.delete(request.id);
    const { seconds, nanos } = took ?? { seconds: 0, nanos: 0 };
    request.milliseconds = seconds * 1000 + nanos / 1e6;
    this.count(request, request.milliseconds);
  }

  private count(request: Request, milliseconds: number): void {
    const { source, destination, method, path, secured, reason } = request;
    const key = JSON.stringify([source, destination, method, path, secured]);
    const sides = this.counted.get(key) ?? new Map<string, Row>();
    // The last one is the least idle.
    this.counted.delete(key);
    put(this.counted, key, sides, ROWS_MAX);
    const row = sides.get(request.direction) ?? {
      ...{ source, destination, method, path, secured, reason },
      ...{ count: 0, successes: 0, best: milliseconds, worst: milliseconds, last: milliseconds },
    };
    sides.set(request.direction, {
      ...row,
      reason,
      count: row.count + 1,
      successes: row.successes + Number(request.succeeded),
      best: Math.min(row.best, milliseconds),
      worst: Math.max(row.worst, milliseconds),
      last: milliseconds,
    });
  }

  /** The workload; else the address without the port, which is another for each connection. */
  private name(side: Side | undefined): string {
    const labels = side?.metadata ?? {};
    const owner = OWNERS.find((it) => labels[it]);
    if (!owner) {
      return side?.ip ?? '–';
    }
    const namespace = labels.namespace;
    return namespace && namespace !== this.namespace ? `${labels[owner]}.${namespace}` : `${labels[owner]}`;
  }
}

function id({ base, stream }: Id): string {
  return `${base}:${stream}`;
}

/** Adds to a map that keeps its latest entries. */
function put<T>(map: Map<string, T>, key: string, value: T, most: number): void {
  map.set(key, value);
  if (map.size > most) {
    const [oldest] = map.keys();
    map.delete(oldest as string);
  }
}
