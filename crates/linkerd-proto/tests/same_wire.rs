//! Our messages and those of the published crate are the same bytes, field by field.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use linkerd_proto as ours;
use linkerd2_proxy_api as theirs;
use prost::Message;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    Value,
};

/// Members of the largest oneof; each round takes another member of every oneof.
const ROUNDS: usize = 9;

/// Fields of our own begin here: the published crate does not know them.
const OURS_FROM: u32 = 100;

/// Deeper than any message but those that contain themselves.
const DEPTH_MAX: usize = 14;

fn pool() -> DescriptorPool {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
    let files = ["destination", "identity", "inbound", "outbound", "tap"];
    let files = files.map(|name| format!("{folder}/{name}.proto"));
    DescriptorPool::from_file_descriptor_set(protox::compile(files, [folder]).unwrap()).unwrap()
}

/// A message with every field set to something that is not the default.
fn filled(descriptor: &MessageDescriptor, round: usize, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    if depth == DEPTH_MAX {
        return message;
    }
    let shared = |field: &FieldDescriptor| field.number() < OURS_FROM;
    for field in descriptor.fields().filter(shared) {
        let chosen = field.containing_oneof().is_none_or(|oneof| {
            let members: Vec<_> = oneof.fields().filter(shared).collect();
            members[round % members.len()] == field
        });
        if chosen {
            message.set_field(&field, field_value(&field, round, depth));
        }
    }
    message
}

fn field_value(field: &FieldDescriptor, round: usize, depth: usize) -> Value {
    if field.is_map() {
        return Value::Map([(MapKey::String("key".into()), Value::String("value".into()))].into());
    }
    let value = match field.kind() {
        Kind::Message(inner) => Value::Message(filled(&inner, round, depth + 1)),
        Kind::Enum(inner) => {
            Value::EnumNumber(inner.values().map(|value| value.number()).max().unwrap())
        }
        Kind::String => Value::String(field.name().to_owned()),
        Kind::Bytes => Value::Bytes(field.name().to_owned().into()),
        Kind::Bool => Value::Bool(true),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(field.number() + 1_000),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(u64::from(field.number()) << 40),
        Kind::Int32 => Value::I32(7),
        Kind::Int64 => Value::I64(7),
        Kind::Float => Value::F32(0.5),
        Kind::Double => Value::F64(0.25),
        other => panic!("a kind that no field had before: {other:?}"),
    };
    match field.cardinality() {
        Cardinality::Repeated => Value::List(vec![value]),
        _ => value,
    }
}

/// Both sides must understand every byte: what one does not know, it would not write again.
fn assert_same_wire<Ours: Message + Default, Theirs: Message + Default>(name: &str) {
    let descriptor = pool()
        .get_message_by_name(&format!("io.linkerd.proxy.{name}"))
        .unwrap();
    for round in 0..ROUNDS {
        let bytes = filled(&descriptor, round, 0).encode_to_vec();
        assert!(!bytes.is_empty());
        let ours = Ours::decode(&bytes[..]).unwrap().encode_to_vec();
        let theirs = Theirs::decode(&bytes[..]).unwrap().encode_to_vec();
        // Members of a oneof may be written in another order, so the lengths are compared.
        assert_eq!(
            ours.len(),
            bytes.len(),
            "{name}: ours lost something in round {round}"
        );
        assert!(ours == theirs, "{name}: theirs differs in round {round}");
    }
}

#[test]
fn destination() {
    use ours::destination as o;
    use theirs::destination as t;
    assert_same_wire::<o::GetDestination, t::GetDestination>("destination.GetDestination");
    assert_same_wire::<o::Update, t::Update>("destination.Update");
    assert_same_wire::<o::DestinationProfile, t::DestinationProfile>(
        "destination.DestinationProfile",
    );
}

#[test]
fn identity() {
    use ours::identity as o;
    use theirs::identity as t;
    assert_same_wire::<o::CertifyRequest, t::CertifyRequest>("identity.CertifyRequest");
    assert_same_wire::<o::CertifyResponse, t::CertifyResponse>("identity.CertifyResponse");
}

#[test]
fn tap() {
    use ours::tap as o;
    use theirs::tap as t;
    assert_same_wire::<o::ObserveRequest, t::ObserveRequest>("tap.ObserveRequest");
    assert_same_wire::<o::TapEvent, t::TapEvent>("tap.TapEvent");
}

#[test]
fn inbound() {
    use ours::inbound as o;
    use theirs::inbound as t;
    assert_same_wire::<o::PortSpec, t::PortSpec>("inbound.PortSpec");
    assert_same_wire::<o::Server, t::Server>("inbound.Server");
}

#[test]
fn outbound() {
    use ours::outbound as o;
    use theirs::outbound as t;
    assert_same_wire::<o::TrafficSpec, t::TrafficSpec>("outbound.TrafficSpec");
    assert_same_wire::<o::OutboundPolicy, t::OutboundPolicy>("outbound.OutboundPolicy");
}
