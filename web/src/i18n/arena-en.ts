/** Texts of the arena, in English. */
export const arenaEn = {
  arenaTitle: "Arena",
  arenaHelp:
    "Two answers to one question, side by side. Whose they are is told after your vote. Votes stay in this " +
    "browser; where one answer is better, it also becomes a preference that Teach can learn from.",
  arenaNeedsModel: "Start a model to compare its answers.",
  openArena: "Compare answers in the arena",
  entrants: (count: number) => `Taking part: ${count}`,
  tooFewEntrants: "Choose at least two to take part.",
  secondModels: {
    beside:
      "Different models answer one after the other. There is room for two: both stay loaded while the " +
      "arena is open. Both answers are shown at once, so that their speed tells nothing.",
    turns:
      "Different models take turns, as there is no room for two: the model in use makes way for the other " +
      "and comes back while you read. Loading takes a moment in each round. Both answers are shown at once.",
  },
  secondLoads: (percent: number) => `The other model is loading: ${percent} %`,
  modelComesBack: "The model in use is loading again…",
  modelIsHeldUp: "The model in use cannot make way now: it is answering or learning. Wait for its end.",
  newContender: "Add another one",
  adapterOfContender: "Adapter",
  noAdapter: "None",
  sampled: {
    temperature: "Temperature",
    top_p: "Top-p",
    top_k: "Top-k",
    min_p: "Min-p",
    repetition_penalty: "Repetition penalty",
  },
  asUsual: "as usual",
  addContender: "Add",
  contenderIsThere: "This one is in the list already.",
  removeContender: (name: string) => `Remove “${name}”`,
  arenaQuestion: "Question to both",
  askBoth: "Ask both",
  answerOfSide: (side: "A" | "B") => `Answer ${side}`,
  bothAnswer: "Both are answering…",
  whichIsBetter: "Which answer is better?",
  sameAnswers: "Both answers are the same. Which is better?",
  winners: {
    model_a: "A is better",
    model_b: "B is better",
    tie: "Both are equally good",
    "tie (bothbad)": "Both are bad",
  },
  whoWas: (a: string, b: string) => `A was ${a}. B was ${b}.`,
  nextQuestion: "Next question",
  ratings: "Ratings",
  contender: "Who",
  rating: "Rating",
  interval: "95 % interval",
  votesOf: "Votes",
  shareOf: "Won",
  ratingsPlot: "Ratings with their 95 % intervals; the table has the numbers",
  ratingsHelp:
    "Bradley-Terry ratings on the Elo scale, 1000 on average: 400 more means ten wins to one. " +
    "A tie is half a win for both.",
  noIntervals:
    "There are no intervals until everyone has won and lost against the others, directly or in a chain.",
  exportVotes: (count: number) => (count === 1 ? "Export 1 vote" : `Export ${count} votes`),
  deleteVotes: "Delete votes",
  deleteVotesQuestion: "Delete all votes of the arena? Preferences in Teach stay.",
};
