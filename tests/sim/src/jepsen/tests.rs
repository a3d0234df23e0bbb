//! Each anomaly in a history made by hand is found, and nothing else is.

use super::{History, NOBODY, Sent, What, check};

const P: usize = 0;
const Q: usize = 1;

fn k() -> String {
    "k".to_owned()
}

/// A history in which 1, 2, 3 and 4 were written to offsets 0, 1, 5 and 6, the gap being a marker.
fn written() -> History {
    let mut history = History::new(true);
    for (value, offset) in [(1, 0), (2, 1), (3, 5), (4, 6)] {
        history.add(NOBODY, What::Sent(k(), value, Sent::Ok(offset)));
    }
    history
}

fn poll(history: &mut History, process: usize, records: &[(i64, u64)]) {
    history.add(process, What::Polled(k(), records.to_vec()));
}

fn names(history: &History) -> Vec<&'static str> {
    check(history).into_iter().map(|a| a.name).collect()
}

#[test]
fn what_is_read_in_order_with_gaps_of_markers_is_well() {
    let mut history = written();
    history.add(P, What::Assigned(vec![k()]));
    poll(&mut history, P, &[(0, 1), (1, 2)]);
    poll(&mut history, P, &[(5, 3), (6, 4)]);
    history.add(Q, What::FinalPolls);
    history.add(Q, What::Assigned(vec![k()]));
    poll(&mut history, Q, &[(0, 1), (1, 2), (5, 3), (6, 4)]);
    assert_eq!(check(&history), []);
}

#[test]
fn two_values_at_one_offset() {
    let mut history = written();
    history.add(NOBODY, What::Sent(k(), 9, Sent::Unknown));
    poll(&mut history, P, &[(0, 9)]);
    assert_eq!(names(&history), ["inconsistent offsets", "lost write"]);
}

#[test]
fn one_value_at_two_offsets() {
    let mut history = written();
    poll(&mut history, P, &[(0, 1), (1, 2), (2, 2), (5, 3), (6, 4)]);
    assert_eq!(names(&history), ["duplicate"]);
}

#[test]
fn a_read_of_what_was_aborted() {
    let mut history = written();
    history.add(NOBODY, What::Sent(k(), 7, Sent::Failed));
    poll(&mut history, P, &[(0, 1), (1, 2), (3, 7), (5, 3), (6, 4)]);
    assert_eq!(names(&history), ["aborted read"]);
    history.read_committed = false;
    assert_eq!(names(&history), [""; 0], "legal where everything is read");
}

#[test]
fn a_read_of_what_nobody_sent() {
    let mut history = written();
    poll(&mut history, P, &[(0, 1), (1, 2), (3, 8), (5, 3), (6, 4)]);
    assert_eq!(names(&history), ["unsent read"]);
}

#[test]
fn a_write_in_front_of_what_was_read_that_nobody_read() {
    let mut history = written();
    poll(&mut history, P, &[(0, 1)]);
    history.add(P, What::Sought(k()));
    poll(&mut history, P, &[(5, 3)]);
    assert_eq!(names(&history), ["lost write"], "2; nobody has got to 4");
}

#[test]
fn a_write_that_the_final_polls_do_not_show() {
    let mut history = written();
    poll(&mut history, P, &[(0, 1), (1, 2), (5, 3), (6, 4)]);
    history.add(Q, What::FinalPolls);
    poll(&mut history, Q, &[(0, 1), (1, 2), (5, 3)]);
    assert_eq!(names(&history), ["unseen"], "4, although another process saw it before");
}

/// What others read next to the group, and the final polls, do not make up for it.
#[test]
fn a_write_that_the_group_never_read() {
    for sought in [false, true] {
        let mut history = written();
        history.add(P, What::Subscribed { logged: true });
        poll(&mut history, P, &[(0, 1), (1, 2)]);
        if sought {
            history.add(P, What::Sought(k()));
        } else {
            history.add(P, What::Rebalanced(None));
        }
        poll(&mut history, P, &[(6, 4)]);
        history.add(Q, What::Assigned(vec![k()]));
        history.add(Q, What::FinalPolls);
        poll(&mut history, Q, &[(0, 1), (1, 2), (5, 3), (6, 4)]);
        let expected = if sought { vec![] } else { vec!["lost write"] };
        assert_eq!(names(&history), expected, "a member that has sought may have passed it over");
    }
}

#[test]
fn a_send_of_which_nobody_knows_may_be_there_or_not() {
    for seen in [true, false] {
        let mut history = written();
        history.add(NOBODY, What::Sent(k(), 5, Sent::Unknown));
        history.add(P, What::FinalPolls);
        poll(&mut history, P, &[(0, 1), (1, 2)]);
        if seen {
            poll(&mut history, P, &[(3, 5)]);
        }
        poll(&mut history, P, &[(5, 3), (6, 4)]);
        assert_eq!(check(&history), [], "{seen}");
    }
}

#[test]
fn a_poll_that_leaves_something_out() {
    let mut history = written();
    history.add(P, What::Assigned(vec![k()]));
    poll(&mut history, P, &[(0, 1)]);
    poll(&mut history, P, &[(5, 3), (6, 4)]);
    poll(&mut history, Q, &[(0, 1), (1, 2)]);
    assert_eq!(names(&history), ["poll skip"], "somebody else read it, but it was not left out for that");
}

#[test]
fn a_poll_that_goes_back() {
    let mut history = written();
    history.add(P, What::Assigned(vec![k()]));
    poll(&mut history, P, &[(0, 1), (1, 2)]);
    poll(&mut history, P, &[(1, 2), (5, 3), (6, 4)]);
    assert_eq!(names(&history), ["nonmonotonic poll"]);
}

#[test]
fn the_same_inside_of_one_poll_even_without_a_rebalance_log() {
    let mut history = written();
    history.add(P, What::Subscribed { logged: false });
    poll(&mut history, P, &[(0, 1), (1, 2)]);
    poll(&mut history, P, &[(0, 1)]);
    assert_eq!(names(&history), [""; 0], "a rebalance that nobody wrote down");
    poll(&mut history, P, &[(0, 1), (5, 3), (5, 3), (6, 4)]);
    assert_eq!(names(&history), ["poll skip", "nonmonotonic poll"]);
}

#[test]
fn a_new_assignment_a_rebalance_a_seek_and_a_crash_begin_anew() {
    let again = [
        What::Assigned(vec![k()]),
        What::Subscribed { logged: true },
        What::Rebalanced(Some(k())),
        What::Rebalanced(None),
        What::Sought(k()),
        What::Crashed,
    ];
    for begin in again {
        let mut history = written();
        history.add(P, What::Subscribed { logged: true });
        poll(&mut history, P, &[(0, 1), (1, 2), (5, 3), (6, 4)]);
        history.add(P, begin.clone());
        poll(&mut history, P, &[(1, 2)]);
        assert_eq!(check(&history), [], "{begin:?}");
    }
    let mut history = written();
    history.add(P, What::Subscribed { logged: true });
    poll(&mut history, P, &[(0, 1), (1, 2), (5, 3), (6, 4)]);
    history.add(P, What::Rebalanced(Some("other".to_owned())));
    history.add(Q, What::Crashed);
    poll(&mut history, P, &[(1, 2)]);
    assert_eq!(names(&history), ["nonmonotonic poll"], "another key, another process");
}

#[test]
fn what_was_deleted_need_not_be_seen() {
    let mut history = written();
    history.add(P, What::Assigned(vec![k()]));
    poll(&mut history, P, &[(0, 1)]);
    history.add(NOBODY, What::Deleted(k(), 5));
    poll(&mut history, P, &[(5, 3), (6, 4)]);
    history.add(Q, What::FinalPolls);
    poll(&mut history, Q, &[(5, 3), (6, 4)]);
    assert_eq!(check(&history), []);
    let mut history = written();
    history.add(Q, What::FinalPolls);
    assert_eq!(names(&history), ["unseen"; 4]);
    history.add(NOBODY, What::Dropped(k()));
    assert_eq!(check(&history), []);
}
