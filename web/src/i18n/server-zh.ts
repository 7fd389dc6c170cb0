import type { serverEn, serverErrorsEn } from "./server-en";

/** Texts of models on servers, in Chinese. */
export const serverZh: typeof serverEn = {
  notPrivate: "非私密",
  notPrivateLine: (host) => `非私密：整个对话都会发送到 ${host}`,
  serverTagline: (host) => `这个模型在 ${host} 上运行，您在这里写的内容会发送到那里。`,
  onServer: (host) => `位于 ${host}`,
  onOtherServers: "其他服务器上的模型",
  connectingTo: (host) => `正在连接 ${host}`,
  addServer: "添加服务器",
  serverTitle: "使用服务器上的模型",
  serverHelp:
    "任何提供 OpenAI 接口的服务器都可以：您自己的（如 nomoat serve、vLLM 或 llama.cpp），或者网上的服务。",
  serverWarning:
    "非私密：每次提问时，整个对话和系统提示都会发送到这台服务器，包括之前与其他模型的对话。服务器的运营者可以阅读并保存这些内容。",
  serverUnencrypted: "http:// 没有加密：网络中的其他人可以看到内容和密钥。",
  serverAddress: "地址",
  serverAddressWrong: "这不是服务器地址。地址形如 https://host/v1。",
  serverKey: "API 密钥",
  serverKeyHelp:
    "密钥未经加密保存在此浏览器中，直到您删除它，并且只发送给这台服务器。服务器不需要密钥时请留空。",
  connect: "显示它的模型",
  serverModel: "模型",
  serverListed: (count) => `服务器有 ${count} 个模型。`,
  serverHasNoList: "服务器没有提供模型列表。请检查地址，或输入模型名称。",
  serverNoMemory: "无需下载，也不占用本机内存。教学、适配器以及内存和速度的估计只适用于在本机运行的模型。",
  serverHasKey: "它的 API 密钥保存在此浏览器中。",
  otherOnServer: "其他模型或密钥",
  deleteServer: "删除服务器和密钥",
  teachNotOnServer:
    "这个模型在服务器上运行，只有本机的模型才能学习或使用适配器。要教学，请选择本机的模型。您在这里收集的内容会保留。",
  settingsNotOnServer: "上下文长度、设备和对话模板只适用于在本机运行的模型。",
  serversTemperature: "由服务器决定",
};

/** Errors of servers, in Chinese. */
export const serverErrorsZh: typeof serverErrorsEn = {
  unreachable: {
    title: "无法连接服务器",
    help: (origin) =>
      `请检查服务器是否在运行、地址是否正确。服务器还必须允许此页面访问（CORS）：请把 ${origin} 加入它接受的来源。`,
  },
  blocked: {
    title: "浏览器阻止了这个地址",
    help: "此页面通过 https:// 打开，浏览器不允许它访问本机以外的 http:// 地址。请使用 https:// 地址。",
  },
  slow: {
    title: "服务器没有及时回应",
    help: "它可能正忙，或仍在加载模型。请重试，或检查地址。",
  },
  refused: {
    title: "服务器拒绝了 API 密钥",
    help: "密钥缺失、错误，或无权使用这个模型。请在模型列表中更正。",
  },
  notFound: {
    title: "服务器没有这个模型",
    help: "请从它列出的模型中选择，并检查地址：地址大多以 /v1 结尾。",
  },
  busy: {
    title: "服务器暂时不再接受请求",
    help: "您可能已达到限额，或余额不足。请稍后重试。",
  },
  failed: {
    title: "服务器出错了",
    help: "问题出在服务器一方。请稍后重试，或选择其他模型。",
  },
  notApi: {
    title: "这不是 OpenAI 接口",
    help: "这个地址有回应，但内容不对。请检查地址：地址大多以 /v1 结尾。",
  },
  tooLong: {
    title: "对话超出了模型的上下文",
    help: "请缩短消息，或开始新对话。",
  },
};
