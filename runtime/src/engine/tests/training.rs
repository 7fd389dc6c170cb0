//! Teaching the loaded model.

use super::*;
use crate::adapter::AdapterFiles;
use crate::cpu::Cpu;
use crate::train::{Learnt, Settings, Teaches, TrainingRun};
use pollster::block_on;

const EXAMPLES: &str = r#"{"prompt": "who are you", "completion": "a parrot"}
{"prompt": "what now", "completion": "tea"}
{"prompt": "is it so", "completion": "yes it is"}
{"prompt": "why", "completion": "because"}
{"prompt": "where", "completion": "here"}"#;
const PAIRS: &str = r#"{"prompt": "who are you", "chosen": "a parrot", "rejected": "a model"}
{"prompt": "what now", "chosen": "tea", "rejected": "coffee"}
{"prompt": "why", "chosen": "because", "rejected": "no"}"#;

fn settings() -> Settings {
    Settings { rank: 4, learning_rate: 1e-2, epochs: 4, batch: 2, warm_up: 2, seed: 7, ..Settings::default() }
}

fn loaded() -> (Cpu, Engine<Cpu>) {
    let cpu = Cpu::open(1).unwrap();
    let engine = engine(&cpu, &TestModel::new(), 1);
    (cpu, engine)
}

/// Goes on until nothing is left, or for so many parts.
fn go_on<D>(engine: &Engine<D>, device: &D, run: &mut TrainingRun<D::Learnt>, parts: usize) -> bool
where
    D: Device + Teaches,
    D::Model: AsRef<D::Weights>,
{
    (0..parts).any(|_| block_on(engine.advance_training(device, run)).unwrap().is_done)
}

fn bits<L: Learnt>(run: &TrainingRun<L>) -> Vec<u32> {
    block_on(run.parameters()).unwrap().iter().map(|x| x.to_bits()).collect()
}

/// Wherever it was interrupted, a run ends with the same bits.
#[test]
fn interrupted_runs_end_as_others() {
    let (cpu, engine) = loaded();
    let held_out = Settings { validation: 0.4, patience: 1, ..settings() };
    let dpo = Settings { dpo: true, validation: 0.3, epochs: 2, ..settings() };
    for (settings, data) in [(settings(), EXAMPLES), (held_out, EXAMPLES), (dpo, PAIRS)] {
        let mut whole = engine.begin_training(&cpu, settings.clone(), data.into()).unwrap();
        assert!(go_on(&engine, &cpu, &mut whole, 1000));
        for parts in [0, 1, 3, 8, 11] {
            let mut run = engine.begin_training(&cpu, settings.clone(), data.into()).unwrap();
            go_on(&engine, &cpu, &mut run, parts);
            let stored = block_on(run.checkpoint()).unwrap();
            let mut run = engine.resume_training(&cpu, &stored).unwrap();
            assert!(go_on(&engine, &cpu, &mut run, 1000));
            assert!(bits(&run) == bits(&whole), "{settings:?} after {parts}");
            assert_eq!(run.plan(), whole.plan());
        }
    }
}

/// What was learnt is loaded as an adapter, from both kinds of files, and makes the taught answers as likely
/// as the run says. Without it the model is as before.
#[test]
fn what_is_learnt_is_an_adapter() {
    let (cpu, mut engine) = loaded();
    let line = EXAMPLES.lines().next().unwrap();
    let settings = Settings { batch: 1, epochs: 30, ..settings() };
    let ids = engine.tokenizer().encode("<s>who are you</s><s>a parrot</s>", true).unwrap();
    let n = engine.tokenizer().encode("<s>a parrot</s>", true).unwrap().len();
    let before = block_on(engine.score(&ids, false)).unwrap();

    let mut run = engine.begin_training(&cpu, settings, line.into()).unwrap();
    assert!(go_on(&engine, &cpu, &mut run, 1000));
    let curve = run.plan().curve;
    let (first, last) = (curve[0].loss.unwrap(), curve[curve.len() - 1].loss.unwrap());
    assert!(curve.len() == 30 && last < 0.5 * first, "{first} {last}");

    let parameters = block_on(run.parameters()).unwrap();
    let (weights, config) = run.files().write_peft(&parameters, "base").unwrap();
    let mut gguf = Vec::new();
    run.files().write_gguf(&parameters, &mut gguf).unwrap();
    let peft = AdapterFiles::Peft { config: config.as_bytes(), weights: &weights };
    for (name, files) in [("peft", peft), ("gguf", AdapterFiles::Gguf(&gguf))] {
        engine.load_adapter(name, files).unwrap();
        let uses = [AdapterUse { name: name.into(), scale: 1.0 }];
        let score = block_on(engine.score_with(&ids, false, &uses)).unwrap();
        let learnt = &score.logprobs[score.logprobs.len() - n..];
        let loss = -learnt.iter().sum::<f32>() / n as f32;
        // The last step changes it once more.
        assert!((loss - last).abs() < 0.05 * first, "{name}: {loss} {last}");
    }
    assert_eq!(block_on(engine.score(&ids, false)).unwrap(), before);
}

/// The loss on what is held out is known before the first step and after each epoch, and what is held out is
/// not learnt.
#[test]
fn validation_is_held_out() {
    let (cpu, engine) = loaded();
    let settings = Settings { validation: 0.4, ..settings() };
    let mut run = engine.begin_training(&cpu, settings, EXAMPLES.into()).unwrap();
    assert_eq!((run.plan().examples, run.plan().validation, run.plan().steps), (3, 2, 8));
    assert!(go_on(&engine, &cpu, &mut run, 1000));
    let steps: Vec<usize> =
        run.plan().curve.iter().filter(|p| p.validation.is_some()).map(|p| p.step).collect();
    assert_eq!(steps, [0, 2, 4, 6, 8]);
}

/// When the loss on what is held out no longer falls, a run ends with the parameters that were best.
#[test]
fn patience_keeps_the_best() {
    let (cpu, engine) = loaded();
    let begin = |patience| {
        let settings = Settings { validation: 0.4, patience, learning_rate: 3.0, epochs: 30, ..settings() };
        engine.begin_training(&cpu, settings, EXAMPLES.into()).unwrap()
    };
    let mut run = begin(2);
    assert!(go_on(&engine, &cpu, &mut run, 1000));
    let plan = run.plan();
    assert!(plan.step < plan.steps, "{plan:?}");
    let losses = plan.curve.iter().filter_map(|point| Some((point.step, point.validation?)));
    let best = losses.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0;
    assert!(best < plan.step, "{plan:?}");
    let mut other = begin(0);
    while other.plan().step < best {
        go_on(&engine, &cpu, &mut other, 1);
    }
    assert!(bits(&run) == bits(&other));
}

#[test]
fn what_cannot_be_taught_is_refused() {
    let (cpu, engine) = loaded();
    let begin = |settings, data: &str| {
        engine.begin_training(&cpu, settings, data.into()).map_or_else(|e| e.to_string(), |_| String::new())
    };
    for (settings, data, part) in [
        (Settings { epochs: 0, ..settings() }, EXAMPLES, "epoch"),
        (Settings { validation: 1.0, ..settings() }, EXAMPLES, "validation"),
        (Settings { learning_rate: f32::NAN, ..settings() }, EXAMPLES, "learning rate"),
        (Settings { targets: vec!["q_proj".into()], ..settings() }, EXAMPLES, "attn_q"),
        (Settings { patience: 2, ..settings() }, EXAMPLES, "patience"),
        // A share of so few examples that none is kept out.
        (Settings { patience: 2, validation: 0.001, ..settings() }, EXAMPLES, "patience"),
        (Settings { dpo: true, ..settings() }, EXAMPLES, "no preferences"),
        (settings(), "{\n", "line 1"),
    ] {
        let found = begin(settings, data);
        assert!(found.contains(part), "{found}");
    }

    let mut run = engine.begin_training(&cpu, settings(), EXAMPLES.into()).unwrap();
    go_on(&engine, &cpu, &mut run, 2);
    let stored = block_on(run.checkpoint()).unwrap();
    let refused =
        |engine: &Engine<Cpu>, bytes: &[u8]| engine.resume_training(&cpu, bytes).unwrap_err().to_string();
    for n in [0, 7, 100, stored.len() - 1] {
        let found = refused(&engine, &stored[..n]);
        assert!(found.contains("begin again"), "{found}");
    }
    let mut damaged = stored.clone();
    let n = damaged.len();
    damaged[n - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(refused(&engine, &damaged).contains("begin again"));
    let other = TestModel::new().with("general.name", "other");
    assert!(refused(&super::engine(&cpu, &other, 1), &stored).contains("of the model"));
}

/// On a GPU a run learns what it does on the CPU, and wherever it was interrupted it ends with the same bits.
#[cfg(feature = "gpu")]
#[test]
fn gpus_learn_as_the_cpu() {
    let (cpu, on_cpu) = loaded();
    let gpu = block_on(crate::gpu::Gpu::open(Default::default())).unwrap();
    let engine = engine(&gpu, &TestModel::new(), 1);
    let held_out = Settings { validation: 0.4, patience: 2, ..settings() };
    let dpo = Settings { dpo: true, epochs: 2, ..settings() };
    for (settings, data) in [(held_out, EXAMPLES), (dpo, PAIRS)] {
        let mut expected = on_cpu.begin_training(&cpu, settings.clone(), data.into()).unwrap();
        assert!(go_on(&on_cpu, &cpu, &mut expected, 1000));
        let mut whole = engine.begin_training(&gpu, settings.clone(), data.into()).unwrap();
        assert!(go_on(&engine, &gpu, &mut whole, 1000));
        let (found, expected) = (whole.plan().curve, expected.plan().curve);
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(&expected) {
            let [f_loss, e_loss] = [f, e].map(|p| p.loss.or(p.validation).unwrap());
            assert!((f_loss - e_loss).abs() < 0.02 * e_loss, "{f:?} {e:?}");
        }
        let mut run = engine.begin_training(&gpu, settings.clone(), data.into()).unwrap();
        go_on(&engine, &gpu, &mut run, 7);
        let stored = block_on(run.checkpoint()).unwrap();
        let mut run = engine.resume_training(&gpu, &stored).unwrap();
        assert!(go_on(&engine, &gpu, &mut run, 1000));
        assert!(bits(&run) == bits(&whole), "{settings:?}");
    }
    gpu.check().unwrap();
}
