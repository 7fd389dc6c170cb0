import type { toolsEn } from "./tools-en";

/** Texts about tools that pages offer, in simplified Chinese. */
export const toolsZh: typeof toolsEn = {
  toolsTitle: "网页提供的工具",
  toolsLine: (on, all) => `网页提供的工具：共 ${all} 个，已启用 ${on} 个`,
  toolsOffered: (count) => `有网页向模型提供了 ${count} 个工具`,
  toolsHelp:
    "此标签页中的网页和扩展程序提供了这些工具。未经您允许，不会使用任何工具。" +
    "模型传给工具的内容会交给提供它的网页，工具返回的内容会交给模型，网页可能借此误导模型。" +
    "如果网页更改了工具，该工具会重新关闭。",
  toolsUnsupported: "当前的模型不能使用工具。",
  noTools: "现在没有网页提供工具。",
  toolsFrom: (origin) => `来自 ${origin}`,
  permissionFor: (tool) => `${tool} 的使用`,
  permissions: {
    off: "关闭",
    ask: "每次调用前询问",
    use: "直接使用，不再询问",
  },
  readOnlyTool: "网页声明此工具只读取数据。",
  consequentialTool: "网页声明调用会产生后果，因此每次都会询问。",
  toolArguments: "参数",
  noArguments: "无",
  optional: "可选",
  toolAsks: (tool) => `模型想使用 ${tool}`,
  allowOnce: "允许这一次",
  allowAlways: "始终允许",
  refuseCall: "拒绝",
  toolOutcomes: {
    running: "正在运行",
    done: "完成",
    failed: "失败",
    refused: "已拒绝",
    stopped: "已停止",
  },
  toolUsed: (tool) => `工具：${tool}`,
  toolResult: "结果",
};
