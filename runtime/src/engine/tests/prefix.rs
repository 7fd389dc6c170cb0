//! The prefix cache: what is computed again, and that it never changes a text or loses a page.

use super::kept::{kept, restore};
use super::*;
use crate::graph::testing::Random;

/// Letters and spaces.
fn letters(random: &mut Random, n: usize) -> String {
    (0..n).map(|_| b"abcdefghij "[(random.bits() >> 20) as usize % 11] as char).collect()
}

/// Conversations that go on, branch anywhere, begin alike, run together and are aborted, on engines that are
/// restarted with the pages that were kept, some of them damaged: each gives the greedy text that it gives
/// alone, and no page is lost.
#[test]
fn random_conversations_give_the_texts_that_they_give_alone() {
    for (seed, sequences, depth) in [(1, 1, 1), (2, 2, 3), (3, 4, 2)] {
        let device = TestDevice::default();
        device.0.depth.set(depth);
        let mut engine = engine(&device, &TestModel::new(), sequences);
        let mut random = Random(seed);
        let mut texts = vec![letters(&mut random, 40)];
        let (mut cached, mut aborted) = (0, 0);
        // Pages outside of the engine, and how many of them were taken back.
        let (mut pages, mut restored) = (Vec::<(String, Vec<u8>)>::new(), 0);
        for round in 1..41 {
            if round % 4 == 0 {
                for (name, mut page) in kept(&mut engine) {
                    let at = (random.bits() >> 20) as usize % page.len();
                    match random.bits() >> 20 & 15 {
                        0 => page[at] ^= 1,
                        1 => page.truncate(at),
                        _ => {}
                    }
                    // What is stored stays, as in a browser.
                    if !pages.iter().any(|(stored, _)| *stored == name) {
                        pages.push((name, page));
                    }
                }
                engine = self::engine(&device, &TestModel::new(), sequences);
            }
            let mut running = Vec::new();
            for _ in 0..sequences {
                let mut below = |n: usize| (random.bits() >> 20) as usize % n;
                let known = &texts[below(texts.len())];
                // The whole text, or a part of it.
                let n = if below(3) == 0 { below(known.len()) } else { known.len() };
                let (more, max_tokens, abort) = (1 + below(25), 1 + below(20), below(40));
                let prompt = known[..n.min(60)].to_string() + &letters(&mut random, more);
                let request = greedy(&prompt, max_tokens);
                restored += restore(&mut engine, &request, &pages);
                let started = engine.start(request.clone()).unwrap();
                running.push((started.sequence, request, abort, Telling::default()));
            }
            for i in 0.. {
                for (id, ..) in running.iter().filter(|(_, _, abort, _)| *abort == i) {
                    engine.cancel(*id);
                    aborted += 1;
                }
                running.retain(|(_, _, abort, _)| *abort != i);
                let Ok(event) = pollster::block_on(engine.advance()) else { break };
                let at = running.iter().position(|(id, ..)| *id == event.sequence).unwrap();
                if let Some(told) = running[at].3.push(event.progress) {
                    let (_, request, ..) = running.remove(at);
                    let expected = alone(&device, request.clone());
                    cached += told.usage.cached_tokens;
                    assert_eq!((&told.text, told.ids), (&expected.text, expected.ids));
                    let Some(Prompt::Text(prompt)) = request.prompt else { panic!("a prompt is a text") };
                    texts.push(prompt + &told.text.replace(|c: char| !c.is_ascii(), ""));
                }
            }
            assert!(running.is_empty() && engine.scheduler.cache.has_all_pages());
        }
        let seen = format!("{cached} tokens reused, {aborted} answers aborted, {restored} pages restored");
        assert!(cached > 500 && aborted > 2 && restored > 5, "{seen}");
    }
}

/// A conversation that branches in the middle of a page; both branches stay.
fn check_branches<D: Device>(device: &D) {
    let mut engine = engine(device, &TestModel::new(), 2);
    let common = "the first page of this is full and another has begun";
    let requests = ["ab", "cde", "ab f"].map(|end| greedy(&format!("{common}{end}"), 9));
    let expected = requests.clone().map(|request| alone(device, request).text);
    for _ in 0..2 {
        for (i, (request, expected)) in requests.iter().zip(&expected).enumerate() {
            let told = answer(&mut engine, request.clone());
            assert_eq!(&told.text, expected);
            let reused = told.usage.cached_tokens;
            assert!(i == 0 || reused > 40, "{reused} tokens reused");
        }
    }
    let usage = answer(&mut engine, requests[0].clone()).usage;
    assert_eq!(usage.cached_tokens, usage.prompt_tokens - 1);
    assert!(engine.scheduler.cache.has_all_pages());
}

#[test]
fn branches_share_a_part_of_a_page() {
    check_branches(&TestDevice::default());
}

#[cfg(feature = "cpu")]
#[test]
fn branches_on_the_cpu() {
    check_branches(&crate::cpu::Cpu::open(2).unwrap());
}

#[cfg(feature = "gpu")]
#[test]
fn branches_on_a_gpu() {
    let options = crate::gpu::Options { kernels: "exact,steps:3".into(), ..Default::default() };
    check_branches(&pollster::block_on(crate::gpu::Gpu::open(options)).unwrap());
}

/// A long prompt takes the pages of old conversations, and the engine goes on.
#[test]
fn old_conversations_make_room() {
    let (device, mut engine) = single();
    let mut random = Random(8);
    for n in [20, 30, 85, 10, 60, 88, 40] {
        let request = greedy(&letters(&mut random, n), 7);
        assert_eq!(answer(&mut engine, request.clone()).text, alone(&device, request).text);
        assert!(engine.scheduler.cache.has_all_pages());
    }
}
