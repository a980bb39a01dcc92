//! Which keys are asked for, in which order.

use crate::declare::key;

#[derive(Clone, Copy)]
pub enum Traffic {
    One,
    /// Every key once, in no order.
    Uniform,
    /// The n-th most frequent key is asked for 1/n as often as the first.
    Zipf,
}

impl Traffic {
    /// How many keys there are.
    pub fn keys(self, many: usize) -> usize {
        match self {
            Self::One => 1,
            Self::Uniform | Self::Zipf => many,
        }
    }

    /// The keys of the requests, in their order. As in a server each request brings its own bytes,
    /// which were just written.
    pub fn requests(self, many: usize) -> Vec<String> {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        match self {
            Self::One => vec![key(0)],
            Self::Uniform => {
                let mut numbers: Vec<usize> = (0..many).collect();
                for place in (1..many).rev() {
                    numbers.swap(place, random.below(place + 1));
                }
                numbers.into_iter().map(key).collect()
            }
            Self::Zipf => {
                let rank = |unit: f64| ((many as f64 + 1.0).powf(unit) as usize).clamp(1, many) - 1;
                // Frequent keys must not be neighbours.
                (0..many).map(|_| key(rank(random.unit()) * 618_033 % many)).collect()
            }
        }
    }
}

/// Xorshift: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
