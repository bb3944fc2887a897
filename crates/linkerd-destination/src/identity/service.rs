//! The service `io.linkerd.proxy.identity.Identity`. Entry: [`Certifier::certify`], one question from
//! start to end; [`Caller`] is one connection's view of it. Cheap checks come first, so that only what
//! could be signed costs the API server a review.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use kube::Client;
use linkerd_issuer::{Leaf, SigningRequest};
use linkerd_names::Identity;
use linkerd_proto::identity::{CertifyRequest, CertifyResponse, identity_server};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tonic::{Request, Response, Status};
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

use super::{
    authority::Authority,
    limit::PeerLimit,
    proof::prove,
    refusal::{Refusal, Refused},
    review::review,
};
use crate::{index::Index, metrics::IdentityMetrics, pod::PodKey};

/// Reviews under way at once. A review takes some milliseconds; further questions are asked again.
const IN_FLIGHT_MAX: usize = 64;

/// Issues certificates to those who prove who they are.
pub struct Certifier {
    client: Client,
    index: Index,
    authority: watch::Receiver<Option<Arc<Authority>>>,
    metrics: IdentityMetrics,
    leaf_lifetime: Duration,
    control_plane_namespace: String,
    peers: Mutex<PeerLimit>,
    in_flight: Semaphore,
}

/// The service as one connection has it.
#[derive(Clone)]
pub struct Caller {
    /// What answers.
    pub certifier: Arc<Certifier>,
    /// Who asks.
    pub peer: SocketAddr,
    /// How many questions are being answered on it.
    pub questions: watch::Sender<usize>,
}

/// A question that is being answered.
struct UnderWay<'a>(&'a watch::Sender<usize>);

impl<'a> UnderWay<'a> {
    fn new(questions: &'a watch::Sender<usize>) -> Self {
        questions.send_modify(|count| *count += 1);
        Self(questions)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Certifier {
    /// A service that signs with what `authority` holds.
    pub fn new(
        client: Client,
        index: Index,
        authority: watch::Receiver<Option<Arc<Authority>>>,
        metrics: IdentityMetrics,
        leaf_lifetime: Duration,
        control_plane_namespace: String,
    ) -> Self {
        Self {
            client,
            index,
            authority,
            metrics,
            leaf_lifetime,
            control_plane_namespace,
            peers: Mutex::default(),
            in_flight: Semaphore::new(IN_FLIGHT_MAX),
        }
    }

    /// Returns a certificate for the public key in the question, and whose pod it is.
    ///
    /// # Errors
    /// [`Refused`]; nothing was signed then.
    pub async fn certify(
        &self,
        peer: SocketAddr,
        question: CertifyRequest,
    ) -> Result<(Leaf, PodKey), Refused> {
        if !self.peers.lock().admit(peer.ip(), Instant::now()) {
            return Err(Refusal::TooManyQuestions.into());
        }
        let authority = self.authority.borrow().clone().ok_or(Refusal::NoRoot)?;
        let (requested, token, request) = read(&question)?;
        let subject = {
            let _permit = self.in_flight.try_acquire().map_err(|_| Refusal::Busy)?;
            review(&self.client, &token).await?
        };
        let refused = |reason| Refused {
            reason,
            pod: Some(subject.pod.clone()),
        };
        if !self.index.is_complete() {
            return Err(refused(Refusal::PodUnknown));
        }
        let pod = self.index.pod(&subject.pod);
        prove(
            &requested,
            &subject,
            pod.as_ref(),
            &self.control_plane_namespace,
        )
        .map_err(refused)?;
        let leaf = authority
            .root
            .issue_from_request(&request, self.leaf_lifetime, SystemTime::now())
            .map_err(|error| refused(error.into()))?;
        Ok((leaf, subject.pod))
    }

    /// Counts and logs a refusal. A pod that has not proved itself is named after its address.
    fn tell(&self, peer: SocketAddr, refused: &Refused) {
        let Refused { reason, pod } = refused;
        self.metrics.refused(reason.label());
        let by_address = || self.index.pod_at(peer.ip().to_canonical());
        let pod = pod.clone().or_else(by_address);
        let pod = pod.map_or_else(|| "unknown".to_owned(), |pod| pod.to_string());
        let label = reason.label();
        if reason.is_flood() {
            debug!(pod, %peer, reason = label, "refused a certificate");
        } else {
            warn!(pod, %peer, reason = label, error = %reason, "refused a certificate");
        }
    }
}

/// Reads and checks everything that can be judged without asking anybody.
fn read(
    question: &CertifyRequest,
) -> Result<(Identity, Zeroizing<String>, SigningRequest), Refusal> {
    let CertifyRequest {
        identity,
        token,
        certificate_signing_request: der,
    } = question;
    for (name, is_empty) in [
        ("identity", identity.is_empty()),
        ("token", token.is_empty()),
        ("certificate_signing_request", der.is_empty()),
    ] {
        if is_empty {
            return Err(Refusal::Missing(name));
        }
    }
    let requested: Identity = identity.parse()?;
    let token = std::str::from_utf8(token)
        .map_err(|_| Refusal::TokenRejected("it is not text".to_owned()))?;
    let request = SigningRequest::parse(der)?;
    if *request.identity() != requested {
        return Err(Refusal::RequestForAnother(request.identity().clone()));
    }
    Ok((requested, Zeroizing::new(token.trim().to_owned()), request))
}

#[tonic::async_trait]
impl identity_server::Identity for Caller {
    async fn certify(
        &self,
        request: Request<CertifyRequest>,
    ) -> Result<Response<CertifyResponse>, Status> {
        let Self {
            certifier,
            peer,
            questions,
        } = self;
        let _under_way = UnderWay::new(questions);
        match certifier.certify(*peer, request.into_inner()).await {
            Ok((leaf, pod)) => {
                certifier.metrics.issued.inc();
                info!(
                    %pod,
                    identity = %leaf.identity(),
                    lifetime_seconds = certifier.leaf_lifetime.as_secs(),
                    "issued a certificate"
                );
                Ok(Response::new(CertifyResponse {
                    leaf_certificate: leaf.as_der().to_vec().into(),
                    // The root itself has signed: proxies have it already.
                    intermediate_certificates: Vec::new(),
                    valid_until: Some(leaf.not_after().into()),
                }))
            }
            Err(refused) => {
                certifier.tell(*peer, &refused);
                Err(refused.reason.status())
            }
        }
    }
}
