//! What a node reads: DNS packets, lines of logs, frames of streams.

use super::{Target, seen};
use crate::corpus::texts;
use crate::mutate::Shape;

pub const TARGETS: &[Target] = &[
    Target { name: "dns", shape: Shape::Bytes, inputs: 8000, corpus: packets, run: dns },
    Target { name: "log-line", shape: Shape::Text(LOG), inputs: 8000, corpus: lines, run: line },
    Target { name: "spdy", shape: Shape::Bytes, inputs: 4000, corpus: frames, run: spdy },
    Target { name: "channel", shape: Shape::Bytes, inputs: 5000, corpus: channels, run: channel },
];

const LOG: &[&str] = &[" ", "\n", "stdout", "stderr", "F", "P", ":", "2026-01-02T03:04:05.000000006Z", "Z"];

/// A query: header, name, type, class; the second with an OPT record.
fn packets() -> Vec<Vec<u8>> {
    let query = |kind: u8, more: &[u8]| {
        let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!more.is_empty())];
        for label in ["kubernetes", "default", "svc", "cluster", "local"] {
            packet.push(label.len() as u8);
            packet.extend_from_slice(label.as_bytes());
        }
        packet.extend_from_slice(&[0, 0, kind, 0, 1]);
        packet.extend_from_slice(more);
        packet
    };
    let mut pointer = query(1, &[]);
    pointer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
    vec![query(1, &[]), query(33, &[0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]), query(12, &[]), pointer]
}

fn dns(input: &[u8]) {
    seen(kube_proxy::dns::untrusted(input));
}

fn lines() -> Vec<Vec<u8>> {
    texts(&["2026-01-02T03:04:05.000000006Z stdout F a b\n", "2026-01-02T03:04:05Z stderr P x"])
}

fn line(input: &[u8]) {
    kubelet::untrusted::log_line(input);
}

/// A ping, data, and a new stream with an empty block.
fn frames() -> Vec<Vec<u8>> {
    vec![
        vec![0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1],
        vec![0, 0, 0, 1, 1, 0, 0, 2, b'h', b'i'],
        vec![
            0x80, 3, 0, 1, 0, 0, 0, 22, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2, 2, 0, 0, 0,
            0xff, 0xff,
        ],
        vec![0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 5],
    ]
}

fn spdy(input: &[u8]) {
    kubelet::untrusted::spdy(input);
}

fn channels() -> Vec<Vec<u8>> {
    vec![b"\0input".to_vec(), b"\x04{\"Width\":80,\"Height\":24}".to_vec(), vec![255, 0], vec![1]]
}

fn channel(input: &[u8]) {
    kubelet::untrusted::channel(input);
}
