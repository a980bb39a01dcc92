use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::*;

/// Panics on odd calls, without a macro that clippy refuses.
fn fails_at_odd(round: u64) {
    assert!(round.is_multiple_of(2), "round {round}");
}

#[tokio::test]
async fn a_round_that_panics_is_followed_by_the_next_wherever_it_panics() {
    let (stop, stopping) = watch::channel(false);
    let (tell, mut told) = mpsc::unbounded_channel();
    // In the closure, in its future, and on the thread beside.
    for place in 0..3_u64 {
        let (tell, rounds) = (tell.clone(), Arc::new(AtomicU64::new(0)));
        every("test", Duration::from_millis(1), stopping.clone(), move || {
            let round = rounds.fetch_add(1, Ordering::Relaxed);
            if place == 0 {
                fails_at_odd(round);
            }
            let tell = tell.clone();
            async move {
                if place == 1 {
                    fails_at_odd(round);
                }
                if place == 2 {
                    blocking(move || fails_at_odd(round)).await;
                }
                let _ = tell.send((place, round));
            }
        });
    }
    let mut seen = [0_u64; 3];
    while seen.iter().any(|&rounds| rounds < 3) {
        let (place, round) = told.recv().await.unwrap();
        assert!(round.is_multiple_of(2));
        seen[usize::try_from(place).unwrap()] += 1;
    }
    stop.send_replace(true);
    drop(tell);
    // All three have ended, and with them what they tell by.
    while told.recv().await.is_some() {}
}
