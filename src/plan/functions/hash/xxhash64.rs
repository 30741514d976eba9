//! `xxHash` of 64 bits, after its specification.

use super::Seed;

/// A seed, and the hash with it.
#[derive(Clone, Copy)]
pub(super) struct XxHash64(pub(super) u64);

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;

fn round(accumulator: u64, lane: u64) -> u64 {
    accumulator
        .wrapping_add(lane.wrapping_mul(P2))
        .rotate_left(31)
        .wrapping_mul(P1)
}

fn eight(hash: u64, lane: u64) -> u64 {
    (hash ^ round(0, lane))
        .rotate_left(27)
        .wrapping_mul(P1)
        .wrapping_add(P4)
}

fn four(hash: u64, lane: u32) -> u64 {
    let hash = hash ^ u64::from(lane).wrapping_mul(P1);
    hash.rotate_left(23).wrapping_mul(P2).wrapping_add(P3)
}

fn one(hash: u64, lane: u8) -> u64 {
    let hash = hash ^ u64::from(lane).wrapping_mul(P5);
    hash.rotate_left(11).wrapping_mul(P1)
}

fn finish(mut hash: u64) -> XxHash64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    XxHash64(hash ^ (hash >> 32))
}

fn lane(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |lane, byte| lane << 8 | u64::from(*byte))
}

impl Seed for XxHash64 {
    fn int(self, value: i32) -> Self {
        finish(four(self.0.wrapping_add(P5).wrapping_add(4), value as u32))
    }

    fn long(self, value: i64) -> Self {
        finish(eight(self.0.wrapping_add(P5).wrapping_add(8), value as u64))
    }

    fn bytes(self, value: &[u8]) -> Self {
        let seed = self.0;
        let mut stripes = value.chunks_exact(32);
        let mut hash = if value.len() < 32 {
            seed.wrapping_add(P5)
        } else {
            let mut lanes = [
                seed.wrapping_add(P1).wrapping_add(P2),
                seed.wrapping_add(P2),
                seed,
                seed.wrapping_sub(P1),
            ];
            for stripe in stripes.by_ref() {
                for (accumulator, bytes) in lanes.iter_mut().zip(stripe.chunks_exact(8)) {
                    *accumulator = round(*accumulator, lane(bytes));
                }
            }
            let [a, b, c, d] = lanes;
            let sum = [
                a.rotate_left(1),
                b.rotate_left(7),
                c.rotate_left(12),
                d.rotate_left(18),
            ];
            let sum = sum.iter().fold(0u64, |sum, lane| sum.wrapping_add(*lane));
            lanes.iter().fold(sum, |hash, lane| {
                (hash ^ round(0, *lane)).wrapping_mul(P1).wrapping_add(P4)
            })
        };
        hash = hash.wrapping_add(value.len() as u64);
        let mut eights = stripes.remainder().chunks_exact(8);
        hash = eights
            .by_ref()
            .fold(hash, |hash, bytes| eight(hash, lane(bytes)));
        let mut fours = eights.remainder().chunks_exact(4);
        hash = fours
            .by_ref()
            .fold(hash, |hash, bytes| four(hash, lane(bytes) as u32));
        finish(
            fours
                .remainder()
                .iter()
                .fold(hash, |hash, byte| one(hash, *byte)),
        )
    }
}
