import type { arenaEn } from "./arena-en";

/** Texts of the arena, in Chinese. */
export const arenaZh: typeof arenaEn = {
  arenaTitle: "竞技场",
  arenaHelp:
    "两个回答并排显示，投票之后才公布各自的来源。投票只保存在本浏览器中；如果其中一个更好，它还会成为可用于教学的偏好。",
  arenaNeedsModel: "请先启动一个模型。",
  openArena: "在竞技场中比较回答",
  entrants: (count) => `参加者：${count}`,
  tooFewEntrants: "请至少选择两个参加者。",
  secondModels: {
    beside:
      "不同的模型先后回答。内存足够容纳两个模型：竞技场打开期间，两者都保持加载。两个回答同时显示，因此无法从速度看出来源。",
    turns:
      "内存不足以同时容纳两个模型，因此轮流运行：当前模型先让位，在您阅读时再重新加载。每一轮都需要一点加载时间。两个回答同时显示。",
  },
  secondLoads: (percent) => `正在加载另一个模型：${percent} %`,
  modelComesBack: "正在重新加载当前模型……",
  modelIsHeldUp: "当前模型正在回答或学习，暂时不能让位。请等它结束。",
  newContender: "添加其他参加者",
  adapterOfContender: "适配器",
  noAdapter: "无",
  sampled: {
    temperature: "温度",
    top_p: "Top-p",
    top_k: "Top-k",
    min_p: "Min-p",
    repetition_penalty: "重复惩罚",
  },
  asUsual: "默认",
  addContender: "添加",
  contenderIsThere: "列表中已有这个参加者。",
  removeContender: (name) => `移除“${name}”`,
  arenaQuestion: "向双方提问",
  askBoth: "提问",
  answerOfSide: (side) => `回答 ${side}`,
  bothAnswer: "双方正在回答……",
  whichIsBetter: "哪个回答更好？",
  sameAnswers: "两个回答相同。哪个更好？",
  winners: {
    model_a: "A 更好",
    model_b: "B 更好",
    tie: "一样好",
    "tie (bothbad)": "都不好",
  },
  whoWas: (a, b) => `A 是 ${a}，B 是 ${b}。`,
  nextQuestion: "下一个问题",
  ratings: "评分",
  contender: "参加者",
  rating: "评分",
  interval: "95 % 区间",
  votesOf: "票数",
  shareOf: "胜率",
  ratingsPlot: "评分及其 95 % 区间，数值见表格",
  ratingsHelp:
    "按 Bradley-Terry 模型计算，以 Elo 分值表示，平均为 1000：高 400 分相当于十胜一负。平局各算半胜。",
  noIntervals: "每个参加者都直接或间接地赢过并输过其他参加者之后，才会显示区间。",
  exportVotes: (count) => `导出 ${count} 票`,
  deleteVotes: "删除投票",
  deleteVotesQuestion: "要删除竞技场的全部投票吗？教学中的偏好会保留。",
};
