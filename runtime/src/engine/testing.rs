//! A device for tests: the scalar interpreter in memory. It runs steps at once and gives their results in
//! order.

use super::{Device, DeviceModel, Engine, Error, LoadOptions, Loading, SlotState};
use crate::adapter::Adapted;
use crate::graph::interpreter::Interpreter;
use crate::graph::{Capacity, Choice, Chosen, Graph, Output, Source, Step, Token, WeightId};
use crate::load::Sink;
use crate::model::testing::TestModel;
use crate::quant::Format;
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::task::Poll;

/// The device. Its clones are the same device.
#[derive(Clone, Default)]
pub struct TestDevice(pub Rc<Settings>);

impl TestDevice {
    /// See [`Settings`].
    pub fn new(depth: usize, max_rows: u32) -> Self {
        let settings = Settings { depth: depth.into(), max_rows: max_rows.into(), ..Default::default() };
        Self(Rc::new(settings))
    }
}

/// What tests set and see.
#[derive(Default)]
pub struct Settings {
    /// Steps that are under way at most; 0 is 1.
    pub depth: Cell<usize>,
    /// Most rows of a step; 0 is 32.
    pub max_rows: Cell<u32>,
    /// Bytes of the largest buffer; 0 is no limit.
    pub max_buffer: Cell<u64>,
    /// Bytes of the KV pool that there is memory for; 0 is no limit.
    pub max_pool: Cell<u64>,
    /// How often polls for a result find it pending.
    pub pending: Cell<usize>,
    /// The next step does not begin.
    pub fails_to_begin: Cell<bool>,
    /// The next result is an error.
    pub fails_to_end: Cell<bool>,
    /// Steps so far.
    pub steps: RefCell<Vec<(Vec<Token>, Vec<Output>)>>,
    /// What each of them ran.
    pub selected: RefCell<Vec<Option<u32>>>,
}

/// What the device is.
#[derive(Serialize)]
pub struct TestInfo {}

fn unless_0<T: Default + PartialEq>(number: T, usual: T) -> T {
    if number == T::default() { usual } else { number }
}

fn broken() -> Error {
    Error::InvalidRequest("the test device is broken".into())
}

impl Device for TestDevice {
    type Info = TestInfo;
    type Model = TestModelOnDevice;

    fn info(&self) -> TestInfo {
        TestInfo {}
    }

    fn kernels(&self) -> String {
        "test".into()
    }

    fn allocate(
        &self,
        graph: &Graph,
        formats: &[Format],
        capacity: Capacity,
    ) -> Result<TestModelOnDevice, Error> {
        assert!(formats.iter().all(|format| *format == Format::F32));
        if graph.kv_bytes(capacity.cells()) > unless_0(self.0.max_pool.get(), u64::MAX) {
            return Err(broken());
        }
        // The interpreter borrows its graph. Tests are short: it is never freed.
        let graph: &'static Graph = Box::leak(Box::new(graph.clone()));
        let numbers = |source: &Source, n| match source {
            Source::Constant(numbers) => numbers.clone(),
            Source::Tensor { .. } | Source::Tensors(_) => vec![f32::NAN; n],
        };
        let weights = graph.weights.iter().map(|w| numbers(&w.source, w.n_rows * w.n_cols)).collect();
        Ok(TestModelOnDevice {
            settings: self.0.clone(),
            graph,
            capacity,
            weights,
            interpreter: None,
            adapted: HashMap::new(),
            selected: None,
            has_begun: false,
            slots: vec![Slot::default(); capacity.sequences as usize],
            results: VecDeque::new(),
            chosen: Vec::new(),
            logits: Vec::new(),
        })
    }

    async fn settle(&self) -> Result<(), Error> {
        Ok(())
    }

    fn max_rows(&self) -> u32 {
        unless_0(self.0.max_rows.get(), 32)
    }

    fn max_buffer(&self) -> u64 {
        unless_0(self.0.max_buffer.get(), u64::MAX)
    }

    fn destroy(&self) {}
}

#[derive(Clone, Default)]
struct Slot {
    token: u32,
    seen: Vec<u32>,
    bias: Vec<f32>,
    mask: Vec<u32>,
}

/// A model on the device.
pub struct TestModelOnDevice {
    settings: Rc<Settings>,
    graph: &'static Graph,
    capacity: Capacity,
    weights: Vec<Vec<f32>>,
    /// From the first step on.
    interpreter: Option<Interpreter<'static>>,
    /// The model with low-rank paths, by number: graphs, and all their weights.
    adapted: HashMap<u32, (&'static Graph, Vec<Vec<f32>>)>,
    selected: Option<u32>,
    /// Whether the next step has begun.
    has_begun: bool,
    slots: Vec<Slot>,
    /// Of each step under way, what it says of its outputs, and their logits.
    results: VecDeque<(Vec<Chosen>, Vec<Vec<f32>>)>,
    chosen: Vec<Chosen>,
    logits: Vec<Vec<f32>>,
}

impl TestModelOnDevice {
    fn interpreter(&mut self) -> &mut Interpreter<'static> {
        let (graph, weights, capacity) = (self.graph, &self.weights, self.capacity);
        self.interpreter.get_or_insert_with(|| Interpreter::new(graph, weights.clone(), capacity))
    }

    /// The token that a slot's choice takes.
    fn choose(&mut self, output: &Output, choice: &Choice, logits: &mut [f32]) -> Chosen {
        let slot = &mut self.slots[output.slot as usize];
        let id = choice.choose(logits, &slot.seen, &slot.bias, &slot.mask);
        slot.seen.get_mut(id as usize).into_iter().for_each(|seen| *seen += 1);
        Chosen { id, ..Chosen::default() }
    }
}

impl DeviceModel for TestModelOnDevice {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn warm_up(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn depth(&self) -> usize {
        unless_0(self.settings.depth.get(), 1)
    }

    fn set_slot(&mut self, slot: u32, state: SlotState) {
        let slot = &mut self.slots[slot as usize];
        (slot.seen, slot.bias) = (state.seen.to_vec(), state.bias.to_vec());
    }

    fn set_mask(&mut self, slot: u32, mask: &[u32]) {
        assert!(self.has_begun, "a mask is computed before the device has anything to do");
        self.slots[slot as usize].mask = mask.to_vec();
    }

    fn begin(&mut self, _: &Step<'_>) -> Result<(), Error> {
        self.has_begun = true;
        Ok(())
    }

    fn copy_page(&mut self, from: u32, to: u32) {
        if let Some(interpreter) = &mut self.interpreter {
            interpreter.copy_page(from, to);
        }
    }

    async fn read_page(&mut self, page: u32) -> Result<Vec<u8>, Error> {
        Ok(self.interpreter().read_page(page))
    }

    fn write_page(&mut self, page: u32, bytes: &[u8]) {
        self.interpreter().write_page(page, bytes);
    }

    fn graph(&self) -> &Graph {
        self.graph
    }

    fn add(&mut self, number: u32, adapted: &Adapted) -> Result<(), Error> {
        let weights = self.weights.iter().chain(&adapted.numbers).cloned().collect();
        self.adapted.insert(number, (Box::leak(Box::new(adapted.graph.clone())), weights));
        Ok(())
    }

    fn remove(&mut self, number: u32) {
        self.adapted.remove(&number).expect("nothing of this number was added");
    }

    fn select(&mut self, number: Option<u32>) {
        self.selected = number;
    }

    fn submit(&mut self, step: &Step<'_>) -> Result<(), Error> {
        self.has_begun = false;
        if self.settings.fails_to_begin.take() {
            return Err(broken());
        }
        assert!(self.results.len() < self.depth(), "more steps under way than the device takes");
        step.check(self.graph, self.capacity).unwrap();
        self.settings.steps.borrow_mut().push((step.tokens.to_vec(), step.outputs.to_vec()));
        let known = |token: &Token| match token.id & Token::FROM_SLOT {
            0 => *token,
            bit => Token { id: self.slots[(token.id - bit) as usize].token, ..*token },
        };
        let tokens: Vec<Token> = step.tokens.iter().map(known).collect();
        self.settings.selected.borrow_mut().push(self.selected);
        let (graph, weights) = match self.selected {
            Some(number) => self.adapted[&number].clone(),
            None => (self.graph, self.weights.clone()),
        };
        let interpreter = self.interpreter();
        interpreter.change(graph, weights);
        let mut chosen = interpreter.step(&Step { tokens: &tokens, ..*step });
        let logits = interpreter.values[graph.logits.unwrap().0].clone();
        let rows = logits.chunks_exact(graph.n_vocab());
        let mut read = vec![Vec::new(); step.outputs.len()];
        for (i, (output, row)) in step.outputs.iter().zip(rows).enumerate() {
            if output.by_choice == Output::BY_HOST {
                read[i] = row.to_vec();
                chosen[i] = Chosen { id: u32::MAX, ..Chosen::default() };
                continue;
            }
            if output.by_choice != 0 {
                chosen[i] = self.choose(output, &step.choices[i], &mut row.to_vec());
            }
            if output.slot != Output::NO_SLOT {
                self.slots[output.slot as usize].token = chosen[i].id;
            }
        }
        self.results.push_back((chosen, read));
        Ok(())
    }

    async fn result(&mut self) -> Result<(), Error> {
        std::future::poll_fn(|context| {
            let pending = &self.settings.pending;
            if pending.get() == 0 {
                return Poll::Ready(());
            }
            pending.set(pending.get() - 1);
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        (self.chosen, self.logits) = self.results.pop_front().expect("no step is under way");
        if self.settings.fails_to_end.take() { Err(broken()) } else { Ok(()) }
    }

    async fn drain(&mut self) -> Result<(), Error> {
        self.results.clear();
        Ok(())
    }

    fn chosen(&self) -> &[Chosen] {
        &self.chosen
    }

    fn logits(&self, output: usize) -> &[f32] {
        &self.logits[output]
    }

    fn dispatches(&self) -> usize {
        self.graph.ops.len()
    }

    fn kv_bytes(&self) -> u64 {
        self.graph.kv_bytes(self.capacity.cells())
    }

    fn gpu_bytes(&self) -> u64 {
        0
    }
}

impl Sink for TestModelOnDevice {
    fn write_blocks(&mut self, weight: WeightId, first_block: usize, quants: &[u8], _scales: &[u8]) {
        for (number, bytes) in
            self.weights[weight.0][32 * first_block..].iter_mut().zip(quants.chunks_exact(4))
        {
            *number = f32::from_le_bytes(bytes.try_into().unwrap());
        }
    }

    fn write_vector(&mut self, weight: WeightId, numbers: &[f32]) {
        self.weights[weight.0].copy_from_slice(numbers);
    }
}

/// Loads a model's files.
pub fn load<D: Device>(
    device: &D,
    files: &[Vec<u8>],
    options: LoadOptions,
) -> Result<(Engine<D>, Vec<String>), Error> {
    let sizes: Vec<u64> = files.iter().map(|file| file.len() as u64).collect();
    let mut loading = Loading::new(&sizes, options);
    for (i, file) in files.iter().enumerate() {
        let mut at = 0;
        loop {
            let missing = loading.push_header(i, &file[at..(at + 100).min(file.len())])?;
            if missing == 0 {
                break;
            }
            at += 100;
        }
    }
    pollster::block_on(async {
        loading.prepare(device).await?;
        for (i, file) in files.iter().enumerate() {
            for piece in file.chunks(1000) {
                loading.push_data(device, i, piece).await?;
            }
        }
        loading.finish(device).await
    })
}

/// The engine of a [`TestModel`] with room for so many contexts.
pub fn engine<D: Device>(device: &D, model: &TestModel, contexts: u32) -> Engine<D> {
    let options = LoadOptions { parallel: Some(contexts), ..Default::default() };
    load(device, &model.files(1), options).unwrap().0
}
