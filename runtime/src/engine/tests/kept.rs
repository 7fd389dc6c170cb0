//! Pages that are kept outside of the engine: they give the same texts, or are not taken.

use super::*;

const PROMPT: &str = "the first page of this is full, the second one too, and a third is not: zq xw vk zq";

/// All cached pages, in the order in which they should be kept.
pub(super) fn kept<D: Device>(engine: &mut Engine<D>) -> Vec<(String, Vec<u8>)> {
    let names = engine.cached_pages();
    let page = |name: String| {
        let bytes = pollster::block_on(engine.read_page(&name)).unwrap().unwrap();
        (name, bytes)
    };
    names.into_iter().map(page).collect()
}

/// Restores what is kept of a request's prompt; gives the number of restored pages.
pub(super) fn restore<D: Device>(
    engine: &mut Engine<D>,
    request: &Request,
    kept: &[(String, Vec<u8>)],
) -> usize {
    let PromptPages { set, ids, names, cached } = engine.prompt_pages(request);
    let bytes = |name: &String| kept.iter().find(|(found, _)| found == name).map(|(_, bytes)| bytes);
    let pages = names[cached..].iter().map_while(bytes);
    let page = graph::PAGE as usize;
    pages.zip(cached + 1..).take_while(|(bytes, n)| engine.restore_page(set, &ids[..n * page], bytes)).count()
}

fn check_continues<D: Device>(device: &D) {
    let mut first = engine(device, &TestModel::new(), 2);
    let said = answer(&mut first, greedy(PROMPT, 9)).text;
    answer(&mut first, greedy("something else that is longer than one page", 3));
    let pages = kept(&mut first);
    assert_eq!(pages.len(), 3);
    let request = greedy(&format!("{PROMPT}{said} and"), 8);
    let expected = alone(device, request.clone());
    assert_eq!(expected.usage.cached_tokens, 0);

    let mut second = engine(device, &TestModel::new(), 2);
    assert_eq!(restore(&mut second, &request, &pages), 2);
    assert!(second.scheduler.cache.has_all_pages());
    let told = answer(&mut second, request.clone());
    assert_eq!((told.text, told.usage.cached_tokens), (expected.text, 64));
    // What is there is not asked for again.
    assert_eq!(second.prompt_pages(&request).cached, 2);
    assert_eq!(restore(&mut second, &request, &pages), 0);

    // A page is kept as it was.
    let again = kept(&mut second);
    assert_eq!(again.iter().filter(|page| pages.contains(page)).count(), 2);
    second.forget();
    assert_eq!((second.cached_pages().len(), second.prompt_pages(&request).cached), (0, 0));
    assert!(second.scheduler.cache.has_all_pages());
}

#[test]
fn a_conversation_goes_on_after_a_restart() {
    check_continues(&TestDevice::default());
}

#[cfg(feature = "cpu")]
#[test]
fn it_goes_on_on_the_cpu() {
    check_continues(&crate::cpu::Cpu::open(2).unwrap());
}

#[cfg(feature = "gpu")]
#[test]
fn it_goes_on_on_a_gpu() {
    let options = crate::gpu::Options { kernels: "exact,steps:3".into(), ..Default::default() };
    check_continues(&pollster::block_on(crate::gpu::Gpu::open(options)).unwrap());
}

#[test]
fn damaged_and_foreign_pages_are_not_taken() {
    let (_, mut first) = single();
    answer(&mut first, greedy(PROMPT, 2));
    let pages = kept(&mut first);
    let (_, mut second) = single();
    let PromptPages { set: None, ids, names, cached } = second.prompt_pages(&greedy(PROMPT, 2)) else {
        panic!("a set without adapters")
    };
    assert_eq!((names.len(), cached), (2, 0));
    let (one, two) = (&ids[..32], &ids[..64]);
    let bytes = |name: &String| &pages.iter().find(|(found, _)| found == name).unwrap().1;
    let (first_page, second_page) = (bytes(&names[0]), bytes(&names[1]));
    for at in [0, first_page.len() / 2, first_page.len() - 1] {
        let mut damaged = first_page.clone();
        damaged[at] ^= 4;
        assert!(!second.restore_page(None, one, &damaged));
    }
    for length in [0, 31, 32, first_page.len() - 1] {
        assert!(!second.restore_page(None, one, &first_page[..length]));
    }
    assert!(!second.restore_page(None, &one[..31], first_page));
    assert!(!second.restore_page(None, &[], first_page));
    // Another page's bytes, and a page without the one before it.
    assert!(!second.restore_page(None, one, second_page));
    assert!(!second.restore_page(None, two, second_page));
    assert_eq!(second.cached_pages().len(), 0);
    assert!(second.restore_page(None, one, first_page) && second.restore_page(None, two, second_page));
    // The same tokens of another model.
    let other = TestModel::new().with("general.name", "another");
    let mut other = engine(&TestDevice::default(), &other, 1);
    assert!(!other.restore_page(None, one, first_page));
    assert!(other.scheduler.cache.has_all_pages());
}

#[test]
fn requests_that_compute_all_of_their_prompt_have_no_pages() {
    let (_, mut engine) = single();
    let scored = Request { prompt_logprobs: true, ..greedy(PROMPT, 1) };
    let embedded = Request { embedding: Some(0), ..greedy(PROMPT, 1) };
    let long = greedy(&PROMPT.repeat(20), 1);
    let short = greedy("abc", 1);
    for request in [scored, embedded, long, short, Request::default()] {
        assert_eq!(engine.prompt_pages(&request).names.len(), 0, "{request:?}");
    }
}

#[test]
fn shortened_prompts_have_the_pages_of_what_is_left() {
    let (_, mut engine) = single();
    let request = Request { context_overflow: ContextOverflow::Shift, ..greedy(&PROMPT.repeat(20), 1) };
    let before = engine.prompt_pages(&request);
    assert!(!before.names.is_empty() && before.cached == 0);
    answer(&mut engine, request.clone());
    let after = engine.prompt_pages(&request);
    assert_eq!((after.names.len(), after.cached), (before.names.len(), before.names.len()));
}

/// Restored pages take the room of old ones, and the pool stays whole.
#[test]
fn restored_pages_make_room() {
    let (device, mut first) = single();
    let mut all = Vec::new();
    let prompts = ["a", "b", "c", "d"].map(|letter| letter.to_string() + PROMPT);
    for prompt in &prompts {
        answer(&mut first, greedy(prompt, 2));
        all.extend(kept(&mut first));
    }
    let (_, mut second) = single();
    for prompt in prompts.iter().rev().cycle().take(7) {
        let request = greedy(prompt, 5);
        restore(&mut second, &request, &all);
        assert!(second.scheduler.cache.has_all_pages());
        let told = answer(&mut second, request.clone());
        assert_eq!((told.text, told.usage.cached_tokens), (alone(&device, request).text, 64));
    }
}
