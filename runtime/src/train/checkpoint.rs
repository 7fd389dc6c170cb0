//! A training run as bytes: a safetensors file with what is learnt, the optimiser's moments and the examples.

use super::run::{Point, Settings, Student, TrainingRun};
use super::{Kind, Learnt, Optimiser, Teaches, TrainError};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};
use serde::{Deserialize, Serialize};

/// What the file is called in its metadata. Other versions are refused.
const FORMAT: &str = "nomoat-training-1";

/// What is not a tensor.
#[derive(Deserialize, Serialize)]
struct State {
    settings: Settings,
    model: String,
    step: usize,
    curve: Vec<Point>,
}

fn bad(what: impl std::fmt::Display) -> TrainError {
    TrainError::Setting(format!("the stored training cannot be used: {what}; begin again"))
}

impl<L: Learnt> TrainingRun<L> {
    /// All that is needed to go on. A step that is under way begins again.
    pub async fn checkpoint(&self) -> Result<Vec<u8>, TrainError> {
        let optimiser = self.trainer.optimiser();
        let learnt = &self.trainer.learnt;
        let parameters = learnt.read(Kind::Parameters).await?;
        let (first, second) = (learnt.read(Kind::First).await?, learnt.read(Kind::Second).await?);
        let references: Vec<f64> = self.references.as_flattened().to_vec();
        let mut tensors: Vec<(&str, Dtype, &[u8])> = vec![
            ("data", Dtype::U8, self.data.as_bytes()),
            ("parameters", Dtype::F32, bytemuck::cast_slice(&parameters)),
            ("first", Dtype::F32, bytemuck::cast_slice(&first)),
            ("second", Dtype::F32, bytemuck::cast_slice(&second)),
            ("references", Dtype::F64, bytemuck::cast_slice(&references)),
        ];
        if let Some(best) = &self.best {
            tensors.push(("best", Dtype::F32, bytemuck::cast_slice(best)));
        }
        let state = State {
            settings: self.settings.clone(),
            model: self.model.clone(),
            step: optimiser.steps(),
            curve: self.curve.clone(),
        };
        let failed = |e: &dyn std::fmt::Display| TrainError::Device {
            code: "internal",
            message: format!("nothing could be stored: {e}"),
        };
        let state = serde_json::to_string(&state).map_err(|e| failed(&e))?;
        let mut views = Vec::new();
        for (name, dtype, bytes) in tensors {
            let n = bytes.len() / (dtype.bitsize() / 8);
            views.push((name, TensorView::new(dtype, vec![n], bytes).map_err(|e| failed(&e))?));
        }
        let metadata = [("format".to_string(), FORMAT.to_string()), ("state".to_string(), state)];
        serialize(views, Some(metadata.into_iter().collect())).map_err(|e| failed(&e))
    }

    /// Goes on from a checkpoint. The model must be the same.
    pub fn resume(
        device: &impl Teaches<Learnt = L>,
        student: Student,
        checkpoint: &[u8],
    ) -> Result<Self, TrainError> {
        let tensors = SafeTensors::deserialize(checkpoint).map_err(bad)?;
        let (_, header) = SafeTensors::read_metadata(checkpoint).map_err(bad)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        if metadata.get("format").map(String::as_str) != Some(FORMAT) {
            return Err(bad("it is of another version"));
        }
        let state = metadata.get("state").map_or("", String::as_str);
        let State { settings, model, step, curve } = serde_json::from_str(state).map_err(bad)?;
        if model != student.name {
            let message = format!("this training is of the model {model}; load it, or begin again");
            return Err(TrainError::Setting(message));
        }
        let bytes = |name: &str, dtype: Dtype| {
            let tensor = tensors.tensor(name).map_err(bad)?;
            if tensor.dtype() != dtype {
                return Err(bad(format!("{name} is {:?}", tensor.dtype())));
            }
            Ok(tensor.data())
        };
        let data = String::from_utf8(bytes("data", Dtype::U8)?.to_vec()).map_err(bad)?;
        let mut run = Self::new(device, student, settings, data)?;
        let n = run.graph().n_parameters;
        let numbers = |name: &str| -> Result<Vec<f32>, TrainError> {
            let numbers: Vec<f32> = bytemuck::pod_collect_to_vec(bytes(name, Dtype::F32)?);
            if numbers.len() != n || numbers.iter().any(|x| !x.is_finite()) {
                return Err(bad(format!("{name} does not fit the model")));
            }
            Ok(numbers)
        };
        let references: Vec<f64> = bytemuck::pod_collect_to_vec(bytes("references", Dtype::F64)?);
        let (pairs, rest) = references.as_chunks::<2>();
        if step > run.steps() || pairs.len() > run.n_lessons() || !rest.is_empty() {
            return Err(bad("it has more steps or pairs than there are"));
        }
        if run.settings.dpo && step > 0 && pairs.len() < run.n_lessons() {
            return Err(bad("it lacks what the base model says"));
        }
        for (name, kind) in
            [("parameters", Kind::Parameters), ("first", Kind::First), ("second", Kind::Second)]
        {
            run.trainer.learnt.write(kind, &numbers(name)?)?;
        }
        run.trainer.set_optimiser(Optimiser::new(run.settings.adam(), step)?);
        run.references = pairs.to_vec();
        run.best = if tensors.tensor("best").is_ok() { Some(numbers("best")?) } else { None };
        run.curve = curve;
        Ok(run)
    }
}
