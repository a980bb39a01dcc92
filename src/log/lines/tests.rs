use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// Does with each write what it is told, and shows what it took.
struct Told {
    orders: Receiver<io::Result<usize>>,
    took: Took,
}

type Took = Arc<Mutex<Vec<u8>>>;

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let some = self.orders.recv().unwrap()?.min(bytes.len());
        self.took.lock().extend_from_slice(&bytes[..some]);
        Ok(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn told() -> (Lines, Sender<io::Result<usize>>, Took) {
    let (order, orders) = channel();
    let took = Took::default();
    (Lines::start("told", Told { orders, took: took.clone() }).unwrap(), order, took)
}

fn text(took: &Mutex<Vec<u8>>) -> String {
    String::from_utf8(took.lock().clone()).unwrap()
}

#[test]
fn lines_are_written_whole_and_in_order_also_in_pieces_and_after_a_pipe_was_full() {
    let (lines, order, took) = told();
    for order_of_one in [
        Ok(2),
        Err(ErrorKind::WouldBlock.into()),
        Err(ErrorKind::Interrupted.into()),
        Err(ErrorKind::WouldBlock.into()),
        Ok(100),
        Ok(100),
    ] {
        order.send(order_of_one).unwrap();
    }
    lines.push(b"first\n");
    lines.push(b"second\n");
    assert!(lines.flush(PATIENCE));
    assert_eq!(
        (text(&took).as_str(), lines.lost(), lines.is_failing()),
        ("first\nsecond\n", 0, false)
    );
}

#[test]
fn a_line_that_cannot_be_written_is_lost_and_counted_and_the_next_begins_on_a_line_of_its_own() {
    for error in [ErrorKind::StorageFull, ErrorKind::BrokenPipe, ErrorKind::Other] {
        let (lines, order, took) = told();
        for order_of_one in [Ok(3), Err(error.into()), Err(error.into()), Ok(100), Ok(100)] {
            order.send(order_of_one).unwrap();
        }
        lines.push(b"first\n");
        lines.push(b"second\n");
        assert!(lines.flush(PATIENCE));
        assert_eq!(
            (text(&took).as_str(), lines.lost(), lines.is_failing()),
            ("fir", 2, true),
            "{error}"
        );
        lines.push(b"third\n");
        assert!(lines.flush(PATIENCE));
        assert_eq!(
            (text(&took).as_str(), lines.lost(), lines.is_failing()),
            ("fir\nthird\n", 2, false),
            "{error}"
        );
    }
}

#[test]
fn a_writer_that_is_stuck_holds_nobody_up_and_takes_no_memory_without_bound() {
    let (lines, order, took) = told();
    let line = [b'x'; 936];
    let pushed = 3 * MOST_BYTES / 1_000;
    (0..pushed).for_each(|_| lines.push(&line));
    let lost = usize::try_from(lines.lost()).unwrap();
    // One may be on its way to the writer already.
    let fit = MOST_BYTES / 1_000;
    assert!((fit..=fit + 1).contains(&(pushed - lost)), "{lost} of {pushed} lost");
    assert!(!lines.flush(Duration::from_millis(1)), "nothing is written");
    assert_eq!(took.lock().len(), 0);
    (lost..pushed).for_each(|_| order.send(Ok(936)).unwrap());
    assert!(lines.flush(PATIENCE));
    assert_eq!(took.lock().len(), (pushed - lost) * 936, "what has waited is written");
    order.send(Ok(100)).unwrap();
    lines.push(b"again\n");
    assert!(lines.flush(PATIENCE));
    assert!(text(&took).ends_with("xagain\n"));
    // Lines without a byte take memory as well. The writer is stuck before them: writing nothing
    // waits for nobody.
    lines.push(b"stuck\n");
    (0..pushed * 10).for_each(|_| lines.push(b""));
    let more = usize::try_from(lines.lost()).unwrap() - lost;
    assert!(pushed * 10 - more <= MOST_BYTES / LINE_BYTES + 1, "{more} more lost");
}
