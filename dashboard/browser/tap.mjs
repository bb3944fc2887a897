// The events of a tap of web, for tests without a cluster: what its clients ask of it, and it of others.

const meta = (name, tls) => ({ namespace: 'emojivoto', deployment: name, pod: `${name}-1`, ...tls });

/** The three events of request number `n`. */
export function request(n) {
  const inbound = n % 2 === 0;
  const plain = n % 10 === 4;
  const voting = n % 4 === 1;
  const failing = n % 12 === 5;
  const from = inbound ? 'vote-bot' : 'web';
  const to = inbound ? 'web' : voting ? 'voting' : 'emoji';
  const id = { base: 1, stream: n };
  const ends = {
    source: { ip: '10.77.0.9', port: 40_000 + (n % 1000), metadata: plain ? {} : meta(from) },
    destination: { ip: '10.77.0.7', port: 8080, metadata: meta(to) },
    proxyDirection: inbound ? 'INBOUND' : 'OUTBOUND',
    tls: plain ? 'no_proxy_tls' : 'true',
    ...(plain ? { noTlsReason: 'peer_sent_plaintext' } : {}),
  };
  const path = inbound
    ? ['/api/list', '/api/vote?choice=:100:'][(n / 2) % 2]
    : voting
      ? '/emojivoto.v1.VotingService/Vote100'
      : '/emojivoto.v1.EmojiService/ListAll';
  const took = { seconds: 0, nanos: (1 + (n % 7)) * 900_000 };
  return [
    {
      ...ends,
      requestInitEvent: { id, method: inbound ? 'GET' : 'POST', scheme: 'http', authority: `${to}-svc:8080`, path },
    },
    { ...ends, responseInitEvent: { id, sinceRequestInit: took, httpStatus: inbound && failing ? 500 : 200 } },
    {
      ...ends,
      responseEndEvent: {
        id,
        sinceRequestInit: took,
        sinceResponseInit: { seconds: 0, nanos: 10_000 },
        responseBytes: 42,
        ...(inbound ? {} : { grpcStatusCode: failing ? 2 : 0 }),
      },
    },
  ];
}

/**
 * Answers as `linkerd dashboard` does: some requests at once, and one more each fifth of a second.
 * `state.taps` counts the open streams, `state.asked` has the last question, `state.troubles` names pods that
 * cannot be watched at first.
 */
export function answer(state, query, response) {
  state.asked = Object.fromEntries(query);
  if (state.tap === 'absent') {
    response.writeHead(404, { 'content-type': 'text/plain' });
    response.end('There is no such page.\n');
    return;
  }
  if (state.tap) {
    response.writeHead(502, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ error: state.tap }));
    return;
  }
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  const write = (line) => response.write(`${JSON.stringify(line)}\n`);
  let n = 0;
  for (const many = state.flood ?? 24; n < many; n += 1) {
    request(n).forEach(write);
  }
  response.write('\n');
  write({ aKindThatIsNotKnown: {} });
  // Of these the first tells something soon after.
  for (const pod of state.troubles ?? []) {
    write({ trouble: { pod, error: 'no answer' } });
  }
  const timer = setInterval(() => {
    request(n).forEach(write);
    n += 1;
  }, 200);
  state.taps = (state.taps ?? 0) + 1;
  response.on('close', () => {
    clearInterval(timer);
    state.taps -= 1;
  });
}
