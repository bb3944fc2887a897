// What a control plane with emojivoto would answer, for tests without a cluster: a bot without TLS at times, a
// database, and a workload that is not meshed.

const NS = 'emojivoto';
const identity = (name) => `${name}.deployment.${NS}.linkerd-managed.linkerd.svc.cluster.local`;
const end = (name, kind = 'deployment') => ({ namespace: NS, kind, name });

/** Figures that change a little with each question, so that the lines are lines. */
function requests(asked, rate, failing, plaintext, latency) {
  const wave = 1 + 0.2 * Math.sin(asked / 2);
  const all = Math.round(60 * rate * wave);
  const failure = Math.round(all * failing * wave);
  const plain = plaintext ? Math.round(all * 0.1) : 0;
  return {
    success: all - failure,
    failure,
    tls: all - plain,
    latency_ms_p50: Math.round(latency * wave),
    latency_ms_p95: Math.round(latency * 2.5 * wave),
    latency_ms_p99: Math.round(latency * 4 * wave),
    no_tls_reasons: plain ? { peer_sent_plaintext: plain } : {},
  };
}

function row(name, more, kind = 'deployment') {
  return {
    kind,
    namespace: NS,
    name,
    pods: 1,
    meshed_pods: 1,
    failed_pods: 0,
    problems: [],
    requests: null,
    connections: null,
    ...more,
  };
}

const connections = (open, tls) => ({
  open,
  open_tls: tls,
  read_bytes: 123_456,
  write_bytes: 7_654_321,
  no_tls_reasons: open === tls ? {} : { peer_sent_plaintext: open - tls },
});

export function overview(asked) {
  const all = requests(asked, 5, 0.03, true, 3);
  const namespace = (name, more) => ({ ...row(name, more, 'namespace'), namespace: '' });
  return {
    window_seconds: 60,
    namespaces: [
      namespace('default', { pods: 0, meshed_pods: 0 }),
      namespace(NS, { pods: 7, meshed_pods: 6, requests: all, connections: connections(9, 8) }),
      namespace('linkerd', { pods: 4, meshed_pods: 4, connections: connections(3, 3) }),
    ],
    workloads: [
      row('emoji', { requests: requests(asked, 2, 0, false, 1), connections: connections(1, 1) }),
      row('legacy', { meshed_pods: 0 }),
      row('vote-bot', {}),
      row('voting', { requests: requests(asked, 1, 0.15, false, 2), connections: connections(1, 1) }),
      row('web', { pods: 2, meshed_pods: 2, requests: all, connections: connections(4, 3) }),
      row('mysql', { connections: connections(2, 2) }, 'statefulset'),
    ],
  };
}

export function edges() {
  const edge = (src, dst, reason, responses, count, open) => ({
    src,
    dst,
    secured: reason === '',
    no_tls_reason: reason,
    client_id: src && reason === '' ? identity(src.name) : '',
    server_id: dst && reason === '' ? identity(dst.name) : '',
    responses,
    connections: count,
    open_connections: open,
  });
  return {
    window_seconds: 600,
    control_plane_namespace: 'linkerd',
    edges: [
      edge(null, end('web'), 'peer_sent_plaintext', 120, 40, 1),
      edge(end('vote-bot'), end('web'), '', 1200, 4, 2),
      edge(end('voting'), end('mysql', 'statefulset'), '', 0, 3, 2),
      edge(end('web'), end('emoji'), '', 1180, 2, 1),
      edge(end('web'), end('legacy'), 'peer_not_meshed', 64, 64, 0),
      edge(end('web'), null, 'off_cluster', 0, 2, 1),
      edge(end('web'), end('voting'), '', 600, 2, 1),
      edge({ ...end('linkerd-prometheus'), namespace: 'linkerd' }, end('web'), '', 60, 1, 1),
    ],
  };
}

export function pods() {
  const pod = (name, owner, kind = 'deployment') => ({
    name,
    ip: '10.77.0.9',
    status: 'Running',
    owner_kind: kind,
    owner_name: owner,
    meshed: owner !== 'legacy',
  });
  return [
    pod('web-76c4f6d9b8-2xkqz', 'web'),
    pod('web-76c4f6d9b8-9dw5n', 'web'),
    pod('legacy-5d9f8c7b6-w8rtn', 'legacy'),
    pod('mysql-0', 'mysql', 'statefulset'),
  ];
}

/** What was, by the overview's own figures: `count` steps of so many seconds. */
export function past(count, stepSeconds, only) {
  const then = Array.from({ length: count }, (_, index) => overview(index - count));
  const { namespaces, workloads } = then[0];
  const rows = [...namespaces, ...workloads].filter((it) => !only || `${it.kind}/${it.name}` === only);
  const field = (row, part, name, scale = 1) =>
    then.map((it) => {
      const all = [...it.namespaces, ...it.workloads];
      const figures = all.find((other) => other.kind === row.kind && other.name === row.name)[part];
      return figures && Math.round(figures[name] * scale);
    });
  return {
    step_seconds: stepSeconds,
    rows: rows.map((row) => ({
      kind: row.kind,
      namespace: row.namespace,
      name: row.name,
      success: field(row, 'requests', 'success', stepSeconds / 60),
      failure: field(row, 'requests', 'failure', stepSeconds / 60),
      tls: field(row, 'requests', 'tls', stepSeconds / 60),
      latency_ms_p50: field(row, 'requests', 'latency_ms_p50'),
      latency_ms_p95: field(row, 'requests', 'latency_ms_p95'),
      latency_ms_p99: field(row, 'requests', 'latency_ms_p99'),
      open: field(row, 'connections', 'open'),
      open_tls: field(row, 'connections', 'open_tls'),
    })),
  };
}

const HOUR = 3600;

/** One is fine; one should have been renewed hours ago. */
export function certificates() {
  const now = Math.floor(Date.now() / 1000);
  const trust_anchor = {
    name: 'Cluster-local Managed Pod CA',
    serial: '4D0E6A7C1B93F2580C6A7E91D45B2F3809C1E6A2',
    ends_at: now + 9 * 365 * 24 * HOUR + HOUR,
  };
  const certificate = (ends, renewal) => ({
    ends_at: now + ends * HOUR + 60,
    renewal_at: now + renewal * HOUR + 60,
    trust_anchor,
  });
  return {
    'web-76c4f6d9b8-2xkqz': certificate(15, 7),
    'web-76c4f6d9b8-9dw5n': certificate(4, -4),
    'mysql-0': certificate(20, 12),
  };
}
