//! `nomoat tune --golden`: the same steps as another implementation took, and how far the results are apart.

use super::Model;
use anyhow::{Context, Result, bail, ensure};
use nomoat_runtime::train::{
    AdamW, Batch, Example, Files, Gradients, Kind, Learnt, LoraSpec, Optimiser, Preference, Schedule,
    StepResult, Teaches, Trainer, TrainingGraph, target_of_module,
};
use serde::Deserialize;
use std::path::Path;
use std::time::Instant;

#[derive(Deserialize)]
struct Golden {
    sft_examples: Vec<Labelled>,
    r: usize,
    alpha: f32,
    targets: Vec<String>,
    start: String,
    sft: Sft,
    dpo: Dpo,
}

/// Token ids, and the same as labels where they are to be predicted; else -100.
#[derive(Deserialize)]
struct Labelled {
    ids: Vec<u32>,
    labels: Vec<i64>,
}

#[derive(Deserialize)]
struct Settings {
    lr: f32,
    betas: [f32; 2],
    eps: f32,
    weight_decay: f32,
    clip: f32,
}

/// Which example or pair each step learns.
#[derive(Deserialize)]
#[serde(untagged)]
enum Order {
    /// Those of each step.
    Batches(Vec<Vec<usize>>),
    /// One in each step.
    Steps(Vec<usize>),
    /// In words: only `s % N at step s` is known, as in "example s % 3 at step s".
    Words(String),
}

impl Order {
    /// Those of each step, of `n` in all.
    fn steps(this: &Option<Self>, n_steps: usize, n: usize) -> Result<Vec<Vec<usize>>> {
        let steps: Vec<Vec<usize>> = match this {
            Some(Self::Batches(steps)) => steps.clone(),
            Some(Self::Steps(steps)) => steps.iter().map(|i| vec![*i]).collect(),
            Some(Self::Words(words)) if !words.contains(&format!("s % {n} at step s")) => {
                bail!("the order {words:?} is not known; use a list of numbers")
            }
            Some(Self::Words(_)) | None => (0..n_steps).map(|step| vec![step % n]).collect(),
        };
        ensure!(steps.len() == n_steps, "there are {n_steps} losses, but the order has {}", steps.len());
        let is_known = |step: &Vec<usize>| !step.is_empty() && step.iter().all(|i| *i < n);
        ensure!(steps.iter().all(is_known), "the order has more than the {n} examples");
        Ok(steps)
    }
}

#[derive(Deserialize)]
struct Sft {
    order: Option<Order>,
    loss: Vec<f64>,
    loss_after: Vec<f64>,
    greedy_after: String,
    #[serde(flatten)]
    settings: Settings,
}

#[derive(Deserialize)]
struct Dpo {
    order: Option<Order>,
    beta: f64,
    rejected: Vec<Labelled>,
    ref_logps: Vec<[f64; 2]>,
    loss: Vec<f64>,
    margin: Vec<f64>,
    #[serde(flatten)]
    settings: Settings,
}

/// Log-probabilities with an adapter.
#[derive(Deserialize)]
struct Scales {
    ids: Vec<u32>,
    #[serde(rename = "logprobs_scale_1.0")]
    one: Vec<f64>,
    #[serde(rename = "logprobs_scale_0.5")]
    half: Vec<f64>,
    #[serde(rename = "logprobs_scale_0.0")]
    zero: Vec<f64>,
}

impl Settings {
    fn adam(&self) -> AdamW {
        AdamW {
            rate: self.lr,
            betas: self.betas,
            eps: self.eps,
            decay: self.weight_decay,
            clip: Some(self.clip),
            warm_up: 0,
            schedule: Schedule::Constant,
        }
    }
}

impl Labelled {
    fn example(&self) -> Example {
        Example { ids: self.ids.clone(), learnt: self.labels.iter().map(|label| *label != -100).collect() }
    }
}

/// Tokens of the greedy answer, at most.
const ANSWER: usize = 24;

/// Takes the golden steps and prints how far the results are apart.
pub async fn run<D: Teaches>(
    model: &Model<D>,
    folder: &Path,
    kept: usize,
    steps: Option<usize>,
) -> Result<()> {
    let bytes = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).with_context(|| format!("cannot open {}", path.display()))
    };
    let golden: Golden = serde_json::from_slice(&bytes("lora_golden.json")?).context("lora_golden.json")?;
    let targets = golden.targets.iter().map(|module| {
        let target = target_of_module(&model.config.architecture, module);
        target.map(String::from).with_context(|| format!("there is no module {module}"))
    });
    let spec = LoraSpec { rank: golden.r, alpha: golden.alpha, targets: targets.collect::<Result<_>>()? };
    let graph = TrainingGraph::new(&model.graph, &spec)?;
    let files = Files { graph: &graph, architecture: &model.config.architecture };
    let (start, has) = files.read_peft(&bytes(&golden.start)?)?;
    ensure!(has.iter().all(|has| *has), "{} lacks matrices of the model", golden.start);
    let begin = |settings: &Settings, steps: usize| -> Result<Trainer<D::Learnt>> {
        let learnt = model.device.learnt(start.clone())?;
        Ok(Trainer::new(learnt, Optimiser::new(settings.adam(), 0)?, steps))
    };
    let all = |all: &[f64]| all.len().min(steps.unwrap_or(usize::MAX));
    let (n_sft, n_dpo) = (all(&golden.sft.loss), all(&golden.dpo.loss));

    let (mut losses, mut gradient) = (Vec::new(), Vec::new());
    let examples: Vec<Example> = golden.sft_examples.iter().map(Labelled::example).collect();
    ensure!(!examples.is_empty(), "there are no examples");
    let order = Order::steps(&golden.sft.order, golden.sft.loss.len(), examples.len())?;
    let mut trainer = begin(&golden.sft.settings, golden.sft.loss.len())?;
    let mut training = model.device.training(&trainer.learnt, &graph, &model.weights, kept)?;
    let begun = Instant::now();
    for (step, batch) in order.iter().enumerate().take(n_sft) {
        let batch: Vec<&Example> = batch.iter().map(|i| &examples[*i]).collect();
        let StepResult { loss, .. } = trainer.sft(&mut training, &batch).await?;
        eprintln!("sft step {step}: loss {loss:.5}, golden {:.5}", golden.sft.loss[step]);
        losses.push(loss);
        if step == 0 {
            gradient = trainer.learnt.read(Kind::Gradient).await?.into_owned();
        }
    }
    let seconds = begun.elapsed().as_secs_f64() / n_sft.max(1) as f64;
    let (mut after, mut greedy) = (None, None);
    if n_sft == golden.sft.loss.len() {
        let mut losses = Vec::new();
        for example in &examples {
            losses.push(trainer.loss(&mut training, &[example]).await?);
        }
        after = Some(most(&losses, &golden.sft.loss_after));
        greedy = Some(answer(model, &mut training, &trainer.learnt, &examples[0]).await?);
    }
    let mut expected = model.tokenizer.encode(&golden.sft.greedy_after, true)?;
    if model.tokenizer.adds_bos() {
        expected.remove(0); // The answer goes on.
    }
    let gradients = bytes("sft_step0_grads_clipped.safetensors")?;
    let grad_rel_error = gradient_error(&files, &gradients, &gradient)?;

    let pairs: Vec<Preference> = examples
        .iter()
        .zip(&golden.dpo.rejected)
        .map(|(chosen, rejected)| Preference { chosen: chosen.clone(), rejected: rejected.example() })
        .collect();
    ensure!(!pairs.is_empty() && pairs.len() == golden.dpo.ref_logps.len(), "there are no pairs");
    ensure!(golden.dpo.margin.len() == golden.dpo.loss.len(), "there are not as many margins as losses");
    let order = Order::steps(&golden.dpo.order, golden.dpo.loss.len(), pairs.len())?;
    let mut trainer = begin(&golden.dpo.settings, golden.dpo.loss.len())?;
    let mut training = model.device.training(&trainer.learnt, &graph, &model.weights, kept)?;
    let mut references: Vec<[f64; 2]> = Vec::new();
    for pair in &pairs {
        references.push(trainer.reference(&mut training, pair).await?);
    }
    let (mut dpo_losses, mut margins) = (Vec::new(), Vec::new());
    for (step, batch) in order.iter().enumerate().take(n_dpo) {
        let batch: Vec<_> = batch.iter().map(|i| (&pairs[*i], references[*i])).collect();
        let result = trainer.dpo(&mut training, &batch, golden.dpo.beta).await?;
        dpo_losses.push(result.loss);
        margins.extend(result.margin.map(|(margin, _)| margin));
        eprintln!("dpo step {step}: loss {:.5}, golden {:.5}", result.loss, golden.dpo.loss[step]);
    }
    let adapter = match folder.join("adapter_logprobs.json").exists() {
        true => {
            let (expected, adapter) =
                (bytes("adapter_logprobs.json")?, bytes("sft_peft/adapter_model.safetensors")?);
            trainer.learnt.write(Kind::Parameters, &files.read_peft(&adapter)?.0)?;
            Some(adapter_distance(&mut training, &trainer.learnt, &expected).await?)
        }
        false => None,
    };
    let flat = |all: &[[f64; 2]]| all.as_flattened().to_vec();
    let report = serde_json::json!({
        "grad_rel_error": grad_rel_error,
        "sft_loss_max_dev": most(&losses, &golden.sft.loss),
        "sft_follows": follows(&losses, &golden.sft.loss[..n_sft]),
        "sft_loss_after_max_dev": after,
        "dpo_loss_max_dev": most(&dpo_losses, &golden.dpo.loss),
        "dpo_margin_max_dev": most(&margins, &golden.dpo.margin),
        "dpo_reference_max_dev": most(&flat(&references), &flat(&golden.dpo.ref_logps)),
        "dpo_follows": follows(&dpo_losses, &golden.dpo.loss[..n_dpo])
            && follows(&margins, &golden.dpo.margin[..n_dpo]),
        "adapter_mean_abs_dlogprob": adapter,
        "greedy_equal": greedy.as_ref().map(|answer| *answer == expected),
        "greedy_text": greedy.map(|answer| model.tokenizer.decode(&answer)),
        "steps": [n_sft, n_dpo],
        "seconds_per_sft_step": seconds,
    });
    println!("{report:#}");
    Ok(())
}

/// The largest difference.
fn most(found: &[f64], expected: &[f64]) -> f64 {
    found.iter().zip(expected).map(|(f, e)| (f - e).abs()).fold(0.0, f64::max)
}

/// Whether each number is within 2 % or 0.01.
fn follows(found: &[f64], expected: &[f64]) -> bool {
    let is_near = |(f, e): (&f64, &f64)| (f - e).abs() <= (0.02 * e.abs()).max(0.01);
    found.len() == expected.len() && found.iter().zip(expected).all(is_near)
}

/// The largest relative error of a matrix of the gradient. Where a gradient is 0, as those of A are at the
/// start, so must be ours.
fn gradient_error(files: &Files, golden: &[u8], found: &[f32]) -> Result<f64> {
    let (expected, has) = files.read_peft(golden)?;
    let norm =
        |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let mut worst = 0.0_f64;
    let mut n = 0;
    for (lora, _) in files.graph.loras.iter().zip(has).filter(|(_, has)| *has) {
        for part in [lora.a(), lora.b()] {
            let (found, expected) = (&found[part.clone()], &expected[part]);
            let size = norm(&mut expected.iter().copied());
            let off = norm(&mut found.iter().zip(expected).map(|(f, e)| f - e));
            worst = worst.max(if size > 0.0 { off / size } else { off });
            n += 1;
        }
    }
    ensure!(n > 0, "the golden gradients are of other matrices");
    Ok(worst)
}

/// The likeliest answer to what an example begins with.
async fn answer<D: Teaches>(
    model: &Model<D>,
    training: &mut D::Training<'_>,
    learnt: &D::Learnt,
    example: &Example,
) -> Result<Vec<u32>> {
    let n = example.learnt.iter().position(|learnt| *learnt).unwrap_or(example.ids.len());
    let mut ids = example.ids[..n].to_vec();
    while ids.len() < n + ANSWER {
        let mut batch = Batch::default();
        // What the last token predicts is asked for; any token does as the one that comes.
        ids.push(0);
        batch.push(&ids, |i| i + 1 == ids.len());
        ids.pop();
        training.forward(&batch, learnt)?;
        let next = training.likeliest().await?.first().copied().context("no logits")?;
        ids.push(next);
        if model.tokenizer.stop_ids().contains(&next) {
            break;
        }
    }
    Ok(ids.split_off(n))
}

/// The mean difference of log-probabilities with a finished adapter at three strengths.
async fn adapter_distance<T: Gradients>(training: &mut T, learnt: &T::Learnt, golden: &[u8]) -> Result<f64> {
    let all: Vec<Scales> = serde_json::from_slice(golden).context("adapter_logprobs.json")?;
    let (mut sum, mut n) = (0.0, 0);
    for Scales { ids, one, half, zero } in &all {
        for (strength, expected) in [(1.0, one), (0.5, half), (0.0, zero)] {
            training.set_strength(strength);
            let mut batch = Batch::default();
            batch.push(ids, |_| true);
            training.forward(&batch, learnt)?;
            let found = training.logprobs().await?;
            ensure!(found.len() == expected.len(), "adapter_logprobs.json has other tokens");
            sum += found.iter().zip(expected).map(|(f, e)| (f - e).abs()).sum::<f64>();
            n += found.len();
        }
    }
    training.set_strength(1.0);
    Ok(sum / n.max(1) as f64)
}
