// The reasons for plaintext in words: those of docs/automatic-tls.md, which a test compares.

export interface Reason {
  means: string;
  todo: string;
}

const REASONS: Record<string, Reason> = {
  disabled: {
    means: 'the proxy was injected without --tls=optional',
    todo: 'inject its manifest with it; what has a proxy already is uninjected before',
  },
  no_credentials: {
    means: 'this proxy has no valid certificate: not yet, or the last one has expired',
    todo: 'wait some seconds; linkerd check',
  },
  peer_not_meshed: {
    means: 'the peer is not meshed by this control plane, or not with --tls=optional',
    todo: 'inject the peer',
  },
  off_cluster: {
    means: 'the address belongs to nothing in the cluster',
    todo: 'nothing',
  },
  discovery_unavailable: {
    means: 'linkerd-destination could not be asked, or has too many streams open for one more',
    todo: 'linkerd check',
  },
  loopback: {
    means: 'the connection stays within the pod',
    todo: 'nothing',
  },
  handshake_failed: {
    means: "the peer's proxy refused the handshake or broke it off",
    todo: "look at the peer's proxy log",
  },
  handshake_timeout: {
    means: "the peer's proxy did not finish the handshake in a second",
    todo: "look at the peer's CPU",
  },
  certificate_invalid: {
    means: "the peer's certificate is expired, or of another root",
    todo: 'linkerd check',
  },
  handshake_backoff: {
    means: 'an earlier handshake with this endpoint failed; it is tried again soon',
    todo: 'as for the earlier one',
  },
  peer_sent_plaintext: {
    means: 'inbound: the client is not meshed, or fell back',
    todo: 'inject the client; if it is meshed, its own proxy has the reason',
  },
  probe: {
    means:
      'inbound: a request of kubelet, which cannot speak mesh TLS; known by its user agent, kube-probe/…',
    todo: 'nothing',
  },
};

export const REASON_WORDS = Object.keys(REASONS);

/** A proxy of a later version may have reasons that this page does not know. */
export function explain(reason: string): Reason {
  return REASONS[reason] ?? { means: 'a reason that this page does not know', todo: 'linkerd check' };
}
