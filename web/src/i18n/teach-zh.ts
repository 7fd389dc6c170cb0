import type { teachEn } from "./teach-en";

/** Texts of teaching, in Chinese. */
export const teachZh: {
  [K in keyof typeof teachEn]: (typeof teachEn)[K] extends string ? string : (typeof teachEn)[K];
} = {
  teachTitle: "教学",
  teachHelp:
    "聊天时修改回答或为回答投票，然后点“开始学习”：模型会在本设备上学习。学到的内容可以随时开启或关闭。",
  teachNeedsModel: "请先启动一个模型。",
  goodAnswer: "回答得好",
  badAnswer: "回答得不好",
  correctAnswer: "修正",
  betterAnswer: "正确的回答",
  saveExample: "保存",
  lessons: "学习内容",
  lessonKind: (kind, count) => (kind === "example" ? `修正：${count}` : `偏好：${count}`),
  noLessons: "还没有内容。所有内容只保存在本浏览器中。",
  searchLessons: "搜索",
  editLesson: (question) => `编辑“${question}”的回答`,
  deleteLesson: (question) => `删除“${question}”`,
  moreLessons: (count) => `还有 ${count} 条，可通过搜索查找。`,
  importLessons: "导入 JSONL",
  exportLessons: "导出 JSONL",
  importedLessons: (count, problems) =>
    problems === 0 ? `已导入 ${count} 条。` : `已导入 ${count} 条，跳过 ${problems} 行。`,
  lessonProblem: (line, problem) => {
    const why = {
      json: "不是 JSON",
      format: "格式未知",
      role: "角色未知或位置不对",
      answer: "没有模型的回答",
    };
    return `第 ${line} 行：${why[problem]}。`;
  },
  lessonsFailed: "无法保存或读取，请检查浏览器的存储空间。",
  lessonsTooLarge: (most) => `文件太大：一次最多可导入 ${most}。`,
  teachSettings: "训练设置",
  teachSetting: {
    rank: "秩",
    learningRate: "学习率",
    epochs: "轮数",
    batch: "每步样本数",
    validation: "用于验证的比例",
    maxTokens: "样本最大词元数",
    warmup: "学习率上升的步数",
    weightDecay: "权重衰减",
    patience: "验证损失连续多少次不下降就提前停止（0：不停止）",
  },
  teachAlpha: "Alpha",
  teachTargets: "参与学习的投影",
  allTargets: "全部",
  teachTargetsHelp: "例如 attn_q，用逗号分隔。",
  teachSchedule: "学习率的变化",
  schedules: { cosine: "降到 0（余弦）", constant: "保持不变" },
  preset: "预设",
  presets: { quick: "快速", thorough: "细致" },
  adapterName: "我的适配器",
  nameNotFree: "请使用没有冒号、且未被占用的名称。",
  nameOfAdapter: "适配器名称",
  teach: "开始学习",
  estimate: "估算",
  measuring: "正在测量…",
  teachPlan: (steps, memory) => `共 ${steps} 步，除模型外最多占用 ${memory} 内存。`,
  teachEstimate: (steps, seconds, memory) =>
    `共 ${steps} 步，约 ${duration(seconds)}，最多占用 ${memory} 内存。`,
  teaching: (name) => `正在学习：${name}`,
  teachStep: (step, steps, speed, left) =>
    `第 ${step} 步，共 ${steps} 步，每秒 ${Math.round(speed)} 个词元` +
    (left === null ? "" : `，还需 ${duration(left)}`),
  lossNow: (training, validation) =>
    `训练损失 ${training}` + (validation === null ? "" : `，验证损失 ${validation}`),
  stopTeaching: "停止",
  taught: (name) => `已学会：${name}`,
  continueTeaching: (epochs) => `继续学习 ${epochs} 轮`,
  beforeTeaching: "学习前",
  afterTeaching: "学习后",
  soFar: "目前",
  sampling: "正在回答……",
  keep: "保留",
  discard: "放弃",
  interruptedTraining: (name) => `“${name}”的训练被中断。`,
  resume: "继续",
  adapters: "适配器",
  noAdapters: "还没有学到内容。可把适配器拖到这里：GGUF、PEFT 的两个文件，或 PEFT 文件夹的 zip。",
  strength: (scale) => `强度 ${scale.toFixed(1)}`,
  strengthOf: (name) => `${name}的强度`,
  renameAdapter: (name) => `重命名“${name}”`,
  exportPeft: "导出为 PEFT",
  exportGguf: "导出 GGUF",
  importAdapter: "导入适配器",
  noAdapterIn: (name) =>
    `${name} 中没有适配器：既没有放在一起的 adapter_config.json 和 adapter_model.safetensors，也没有 GGUF 文件。`,
};

function duration(seconds: number): string {
  return seconds < 90 ? `${Math.ceil(seconds)} 秒` : `${Math.ceil(seconds / 60)} 分钟`;
}
