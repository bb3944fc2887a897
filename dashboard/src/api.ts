// What linkerd-api answers under /api. The other side of crates/linkerd-api/src/dashboard.

/** Requests that an object received within the window. */
export interface Requests {
  success: number;
  failure: number;
  /** Of all of them, those over mutual TLS. */
  tls: number;
  latency_ms_p50: number;
  latency_ms_p95: number;
  latency_ms_p99: number;
  no_tls_reasons: Record<string, number>;
}

/** Connections to an object. The bytes are those of the window. */
export interface Connections {
  open: number;
  open_tls: number;
  read_bytes: number;
  write_bytes: number;
  no_tls_reasons: Record<string, number>;
}

/** Why a container of the mesh does not run. */
export interface Problem {
  pod: string;
  container: string;
  reason: string;
  message: string;
}

/** A Namespace or workload. */
export interface Row {
  kind: string;
  /** Empty for a Namespace. */
  namespace: string;
  name: string;
  pods: number;
  meshed_pods: number;
  failed_pods: number;
  problems: Problem[];
  /** Null when there was none. */
  requests: Requests | null;
  /** Null when there was none. */
  connections: Connections | null;
}

export interface Overview {
  window_seconds: number;
  namespaces: Row[];
  workloads: Row[];
}

export interface End {
  namespace: string;
  kind: string;
  name: string;
}

/** Connections of one workload to another with one outcome of TLS. */
export interface Edge {
  /** Null: a client without a proxy, so nobody knows who it is. */
  src: End | null;
  /** Null: no workload, such as an address outside of the cluster. */
  dst: End | null;
  secured: boolean;
  no_tls_reason: string;
  client_id: string;
  server_id: string;
  responses: number;
  connections: number;
  open_connections: number;
}

export interface Graph {
  window_seconds: number;
  control_plane_namespace: string;
  edges: Edge[];
}

export interface Pod {
  name: string;
  ip: string;
  status: string;
  owner_kind: string;
  owner_name: string;
  meshed: boolean;
}

/** What a pod's proxy proves itself by. Times are seconds since 1970. */
export interface Certificate {
  ends_at: number;
  /** Null of a proxy that does not say it. */
  renewal_at: number | null;
  trust_anchor: { name: string; serial: string; ends_at: number } | null;
}

/** A number a step, oldest first, the last one of now; null where there was no traffic. */
export interface Course {
  kind: string;
  namespace: string;
  name: string;
  success: (number | null)[];
  failure: (number | null)[];
  tls: (number | null)[];
  latency_ms_p50: (number | null)[];
  latency_ms_p95: (number | null)[];
  latency_ms_p99: (number | null)[];
  open: (number | null)[];
  open_tls: (number | null)[];
}

export interface Past {
  step_seconds: number;
  rows: Course[];
}

export interface Version {
  version: string;
  control_plane_namespace: string;
}

const TIMEOUT_MS = 25_000;

/** Asks for `path`. Whatever goes wrong, the error is a sentence for people. */
export async function ask<T>(path: string): Promise<T> {
  let response: Response;
  let text: string;
  try {
    response = await fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    text = await response.text();
  } catch {
    throw new Error('No answer. Does linkerd dashboard still run in its terminal?');
  }
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new Error(`An answer that makes no sense (status ${response.status}).`);
  }
  if (!response.ok) {
    const error = (body as { error?: string } | null)?.error;
    throw new Error(`The control plane has no answer: ${error ?? `status ${response.status}`}`);
  }
  return body as T;
}
