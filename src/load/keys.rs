//! Which key the next call is for.

/// How often each key is picked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Skew {
    /// All alike.
    Uniform {
        keys: u64,
    },
    Zipf(Zipf),
    /// One after the other, and from the start again.
    InTurn {
        keys: u64,
    },
}

/// Which keys calls are for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// 0: all keys alike; else at random by Zipf's law with this exponent.
    Skewed(f64),
    /// One after the other on each thread, so that as many calls as keys have asked for each of
    /// them.
    InTurn,
}

impl Skew {
    /// With an exponent the k-th key is picked in proportion to k^-exponent.
    pub(super) fn new(keys: u64, order: Order) -> Self {
        match order {
            Order::Skewed(exponent) if exponent > 0.0 => Self::Zipf(Zipf::new(keys, exponent)),
            Order::Skewed(_) => Self::Uniform { keys },
            Order::InTurn => Self::InTurn { keys },
        }
    }

    /// A number below the count of keys.
    pub(super) fn pick(&self, random: &mut Random) -> u64 {
        match self {
            Self::Uniform { keys } => random.below(*keys),
            Self::Zipf(zipf) => zipf.pick(random),
            Self::InTurn { keys } => random.turn(*keys),
        }
    }
}

/// Numbers that look random, the same ones for the same seed.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
    turn: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed, turn: 0 }
    }

    /// The mixing function is that of SplitMix64.
    fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A whole number below `bound`; 0 where nothing is below it.
    #[allow(clippy::cast_possible_truncation)]
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// 0, 1, 2 and so on below `bound`, and again.
    fn turn(&mut self, bound: u64) -> u64 {
        let turn = self.turn;
        self.turn = if turn + 1 < bound { turn + 1 } else { 0 };
        turn
    }

    /// A number from 0 up to, and without, 1.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn part(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Zipf's law by rejection-inversion (Hörmann and Derflinger, 1996): a pick takes the same time
/// whatever the number of keys, and no table.
///
/// The bars of the histogram k^-s, each as wide as 1, stand beside the curve x^-s. A point under
/// the curve is picked by inverting its integral, rounded to a bar, and rejected where it lies
/// above the bar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Zipf {
    keys: f64,
    exponent: f64,
    /// The integral at the left end, of which the first bar has all of its area, and at the right
    /// end.
    from: f64,
    to: f64,
    /// So close to the middle of its bar no point is above it.
    sure: f64,
}

impl Zipf {
    #[allow(clippy::cast_precision_loss)]
    fn new(keys: u64, exponent: f64) -> Self {
        let keys = keys.max(1) as f64;
        let area = |x| integral(x, exponent);
        let sure = 2.0 - inverse(area(2.5) - 2.0_f64.powf(-exponent), exponent);
        Self { keys, exponent, from: area(1.5) - 1.0, to: area(keys + 0.5), sure }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn pick(&self, random: &mut Random) -> u64 {
        loop {
            let area = self.to + random.part() * (self.from - self.to);
            let point = inverse(area, self.exponent);
            let bar = point.round().clamp(1.0, self.keys);
            if bar - point <= self.sure
                || area >= integral(bar + 0.5, self.exponent) - bar.powf(-self.exponent)
            {
                return bar as u64 - 1;
            }
        }
    }
}

/// Closer to 1 than this an exponent is taken for 1, where the integral is the logarithm.
const NEAR_ONE: f64 = 1e-9;

/// The integral of x^-s from 1 to x.
fn integral(x: f64, exponent: f64) -> f64 {
    let power = 1.0 - exponent;
    if power.abs() < NEAR_ONE { x.ln() } else { (power * x.ln()).exp_m1() / power }
}

/// The x at which the integral has this value.
fn inverse(area: f64, exponent: f64) -> f64 {
    let power = 1.0 - exponent;
    if power.abs() < NEAR_ONE {
        area.exp()
    } else {
        ((area * power).max(-1.0).ln_1p() / power).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::cast_precision_loss)]
    fn keys_are_picked_as_often_as_their_skew_says() {
        const PICKS: u32 = 200_000;
        for keys in [1, 2, 10, 1000] {
            for exponent in [0.0, 0.5, 1.0, 1.2, 2.0] {
                let skew = Skew::new(keys as u64, Order::Skewed(exponent));
                let mut random = Random::new(7);
                let mut picked = vec![0_u32; keys];
                for _ in 0..PICKS {
                    picked[usize::try_from(skew.pick(&mut random)).unwrap()] += 1;
                }
                let weight = |key: usize| ((key + 1) as f64).powf(-exponent);
                let all: f64 = (0..keys).map(weight).sum();
                for (key, picked) in picked.into_iter().enumerate() {
                    let expected = weight(key) / all * f64::from(PICKS);
                    let off = (f64::from(picked) - expected).abs();
                    // Five standard deviations.
                    assert!(
                        off <= 5.0 * expected.sqrt() + 1.0,
                        "{keys} keys, exponent {exponent}, key {key}: {picked} of {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn keys_in_turn_are_each_picked_once_around() {
        let (skew, mut random) = (Skew::new(3, Order::InTurn), Random::new(7));
        assert_eq!([(); 7].map(|()| skew.pick(&mut random)), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn the_first_and_the_last_key_are_within_bounds_among_many() {
        for exponent in [0.0, 0.9, 1.0, 3.0] {
            let skew = Skew::new(10_000_000, Order::Skewed(exponent));
            let mut random = Random::new(1);
            assert!((0..100_000).all(|_| skew.pick(&mut random) < 10_000_000), "{exponent}");
        }
    }
}
