//! Jobs done in parallel, their results taken in order.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::bail;

use super::*;

#[derive(Default)]
struct Buffer(Vec<u8>);

impl Tools for Buffer {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

#[test]
fn takes_results_in_the_order_of_their_jobs() {
    let mut taken = Vec::new();
    let work = |job: u64, _: &mut Buffer, _: Crew<'_>, _: &mut Part<'_, _, _>| Ok(job * 2);
    let push = |result| {
        taken.push(result);
        Ok(())
    };
    run(
        3,
        work,
        push,
        || Ok(()),
        |lead| {
            for job in 0..2000 {
                if job % 3 == 0 { lead.pass(job * 2)? } else { lead.submit(job)? }
            }
            Ok(())
        },
    )
    .unwrap();
    assert!(taken.into_iter().eq((0..2000).map(|job| job * 2)));
}

#[test]
fn ends_with_the_first_failure_wherever_it_is() {
    let fail_at = |at: &'static str| {
        let work = move |_: u64, _: &mut Buffer, _: Crew<'_>, _: &mut Part<'_, _, _>| {
            if at == "work" {
                bail!("work failed")
            }
            Ok(1)
        };
        let take = move |_| {
            if at == "take" {
                bail!("take failed")
            }
            Ok(())
        };
        let error = run(
            2,
            work,
            take,
            || Ok(()),
            |lead| {
                for job in 0..1000 {
                    lead.submit(job)?;
                }
                if at == "lead" {
                    bail!("lead failed")
                }
                Ok(())
            },
        );
        error.unwrap_err().to_string()
    };
    for at in ["work", "take", "lead"] {
        assert_eq!(fail_at(at), format!("{at} failed"));
    }
}

#[test]
fn all_assist_with_a_large_job() {
    struct Large(AtomicU64);
    impl Assist for Large {
        fn assist(&self, _: &mut Vec<u8>) {
            // Whoever comes waits for the other: it ends only if two do.
            self.0.fetch_add(1, Ordering::SeqCst);
            while self.0.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
        }
    }
    let work = |(): (), _: &mut Buffer, crew: Crew<'_>, _: &mut Part<'_, _, _>| {
        let large: Arc<dyn Assist> = Arc::new(Large(AtomicU64::new(0)));
        crew.call(Arc::clone(&large));
        large.assist(&mut Vec::new());
        crew.dismiss(&large);
        Ok(())
    };
    run(2, work, |()| Ok(()), || Ok(()), |lead| lead.submit(())).unwrap();
}

#[test]
fn what_is_left_of_a_job_is_done_by_another_and_taken_after_it() {
    // Each job counts down and leaves the rest; a part of one does not end before another has begun with the rest. There
    // is a thread for each part.
    let begun: Vec<AtomicU64> = (0..5).map(|_| AtomicU64::new(4)).collect();
    let work = |(job, left): (usize, u64), _: &mut Buffer, _: Crew<'_>, part: &mut Part<'_, _, _>| {
        begun[job].store(left, Ordering::SeqCst);
        if left > 0 {
            part.leave((job, left - 1));
            while begun[job].load(Ordering::SeqCst) == left {
                std::thread::yield_now();
            }
        }
        Ok((job, left))
    };
    let mut taken = Vec::new();
    let push = |result| {
        taken.push(result);
        Ok(())
    };
    run(20, work, push, || Ok(()), |lead| (0..5).try_for_each(|job| lead.submit((job, 3)))).unwrap();
    assert!(taken.into_iter().eq((0..5).flat_map(|job| (0..=3).rev().map(move |left| (job, left)))));
}
