/** Every text of the page in English. The other dictionaries have this shape. */
export const en = {
  // Page and navigation
  tagline: "A language model in this tab. Nothing you write leaves your device.",
  newChat: "New chat",
  conversations: "Conversations",
  openConversations: "Show conversations",
  noConversations: "Your conversations will be kept here, in this browser only.",
  untitled: "New conversation",
  deleteConversation: (title: string) => `Delete “${title}”`,
  deleteAll: "Delete all",
  deleteAllQuestion: "Delete all conversations? This cannot be undone.",
  today: "Today",
  yesterday: "Yesterday",
  earlier: "Earlier",
  settings: "Settings",
  storage: "Storage",
  close: "Close",
  cancel: "Cancel",
  private: "Private: runs on this device",

  // Conversation
  conversation: "Conversation",
  message: "Message",
  messagePlaceholder: "Ask anything",
  send: "Send",
  stop: "Stop",
  regenerate: "Regenerate",
  answerNow: "Answer",
  edit: "Edit",
  editing: "You are changing your last question.",
  copy: "Copy",
  copied: "Copied",
  copyAnswer: "Copy answer",
  copyCode: "Copy code",
  you: "You",
  jumpToEnd: "Go to the latest",
  waitingForModel: "Your message will be answered as soon as the model is ready.",
  starting: "Starting",
  reading: (done: number, total: number) => `Reading your message… ${done} / ${total} tokens`,
  writing: "Writing",
  answerDone: "Answer complete",
  answerStopped: "Stopped",
  stopped: "You stopped this answer.",
  interrupted: "This answer was cut off.",
  reachedMaxTokens: "The answer reached the limit of tokens set in Settings.",
  reachedContext:
    "The conversation has filled the model’s context. Start a new chat, or choose a longer context in Settings.",
  tokensPerSecond: (rate: string) => `${rate} tokens/s`,
  tokenCount: (count: number) => (count === 1 ? "1 token" : `${count} tokens`),
  promptTokens: (count: number, cached: number) =>
    cached > 0 ? `prompt ${count} (${cached} reused)` : `prompt ${count}`,
  imageLink: (text: string) => `Image: ${text}`,

  // Welcome
  welcome: "What would you like to know?",
  suggestions: [
    "What is the capital of France?",
    "Explain photosynthesis to a ten-year-old",
    "Write a short poem about the sea",
  ],

  // Models
  model: "Model",
  addModel: "Add a model",
  addModelHelp: "Any GGUF file of a supported family works. It is opened here and goes nowhere else.",
  openFile: "Open a GGUF file",
  openFileHelp: "For a split model, choose all its parts. You can also drop files anywhere on the page.",
  url: "Or the address of a GGUF file",
  urlHelp: "For a split model, give the addresses of all its parts, one on each line.",
  urlInvalid: "This is not a web address that ends in .gguf.",
  add: "Add",
  dropHere: "Drop the GGUF file to open it",
  notGguf: (name: string) => `“${name}” is not a GGUF file.`,
  catalogue: "Catalogue",
  fromServer: "On this server",
  added: "Added by you",
  notDownloaded: "not downloaded",
  partly: (percent: number) => `${percent}% downloaded`,
  stored: "on this device",
  localFile: "opened file",
  parameterCount: (count: string) => `${count} parameters`,
  contextOf: (tokens: number) => `context ${tokens.toLocaleString("en")}`,
  downloadAndStart: (size: string) => `Download and start – ${size}`,
  downloadAndStartUnknown: "Download and start",
  continueDownload: (size: string) => `Continue download – ${size} to go`,
  start: "Start",
  consent: "It is downloaded once, kept in this browser and then works offline.",
  loadingModel: (name: string) => `Loading ${name}`,
  preparingDevice: "Preparing the device…",
  downloading: (name: string) => `Downloading ${name}`,
  loadingOntoDevice: (name: string) => `Loading ${name} onto the device`,
  ofBytes: (loaded: string, total: string) => `${loaded} of ${total}`,
  perSecond: (amount: string) => `${amount}/s`,
  secondsLeft: (seconds: number) =>
    seconds < 90 ? `${seconds} s left` : `${Math.round(seconds / 60)} min left`,
  modelReady: (name: string) => `${name} is ready`,

  // Device
  fallbackDevice: "software, slow",
  threads: (count: number) => (count === 1 ? "1 thread" : `${count} threads`),
  deviceReasons: {
    asked: "your choice",
    adapter: "GPU found",
    "no-adapter": "no GPU found",
    "software-adapter": "no real GPU found",
    "webgpu-failed": "the GPU failed",
  },

  // Settings
  answers: "Answers",
  temperature: "Temperature",
  temperatureHelp: "0 gives the most likely answer every time; higher values vary more.",
  maxTokens: "Max tokens",
  maxTokensHelp: "The longest an answer may become.",
  contextLength: "Context length",
  contextLengthHelp:
    "How much of the conversation the model can hold. More needs more memory; the model is loaded anew.",
  device: "Device",
  deviceHelp:
    "Automatic takes the GPU where there is a real one, else the CPU. Another one loads the model anew.",
  devices: { auto: "Automatic", webgpu: "GPU (WebGPU)", cpu: "CPU" },
  systemPrompt: "System prompt",
  systemPromptHelp: "Sent before every conversation, for example “Answer briefly.”",
  appearance: "Appearance",
  language: "Language",
  automatic: "Automatic",
  theme: "Theme",
  switchToLight: "Light theme",
  switchToDark: "Dark theme",
  light: "Light",
  dark: "Dark",

  // Storage
  storageUsed: (used: string, quota: string) => `${used} used of ${quota} that the browser allows this page`,
  persistent: "Kept until you delete it.",
  notPersistent: "The browser may clear this when the disk is full.",
  askPersistent: "Ask the browser to keep it",
  persistentRefused: "The browser did not agree. Installing the page, or using it more often, usually helps.",
  storedModels: "Stored models",
  noStoredModels: "No model is stored yet.",
  deleteModel: (name: string) => `Delete ${name}`,
  deleteFailed: (name: string) =>
    `${name} could not be deleted: it is being downloaded, perhaps in another tab. Stop that and try again.`,
  delete: "Delete",
  inUse: "in use",

  // New version
  updateReady: "A new version is ready",
  reload: "Reload",
  later: "Later",

  // Errors: what is wrong, and what to do
  tryAgain: "Try again",
  openStorage: "Open storage",
  openSettings: "Open settings",
  chooseModel: "Choose another model",
  continueOnCpu: "Continue on the CPU",
  details: "Details",
  errors: {
    insecure: {
      title: "This page needs a secure address",
      help: "Browsers allow WebGPU on https:// and on localhost only. Open the page through one of these, or continue on the CPU, which is slower.",
    },
    noWebGpu: {
      title: "This browser offers no WebGPU",
      help: "Continue on the CPU, which is slower; Settings leads back. For WebGPU, use Chrome or Edge 113 or later, Safari 26, or Firefox 141 or later, and keep “graphics acceleration” on in the browser’s settings. On Linux, Chrome may need chrome://flags/#enable-unsafe-webgpu; Firefox may need dom.webgpu.enabled in about:config.",
    },
    noSimd: {
      title: "This browser cannot run models",
      help: "Without WebGPU the CPU has to do it, and that needs WebAssembly SIMD, which this browser lacks. Update it, or use another one.",
    },
    deviceWrong: {
      title: "This graphics device computes wrongly",
      help: "A short self-test gave wrong results, so the device is not used. Continue on the CPU, which is slower, or update the graphics driver and the browser.",
    },
    modelNotFound: {
      title: "The model was not found",
      help: "Check the address. If the file needs a login, download it yourself and open it as a file.",
    },
    corrupt: {
      title: "The model file is damaged",
      help: "Try again: only damaged parts are fetched anew. If this is a file of yours, download it again from its source.",
    },
    unsupported: {
      title: "This model is not supported yet",
      help: "Choose another model, or another quantization of this one. What is missing is named below.",
    },
    outOfMemory: {
      title: "Not enough memory for this model",
      help: "Close other tabs and programs, choose a shorter context in Settings, or choose a smaller model.",
    },
    quota: {
      title: "Not enough storage for this model",
      help: (needed: string, available: string, missing: string) =>
        `It needs ${needed} and the browser has ${available} left: ${missing} are missing. Delete models you do not use, or free disk space.`,
      helpUnknown: "Delete models you do not use, or free disk space.",
    },
    deviceLost: {
      title: "The connection to the graphics device was lost",
      help: "This can happen after sleep, a driver update, or when memory runs out. Your conversation is safe: try again, or continue on the CPU, which is slower; Settings leads back.",
    },
    network: {
      title: "The connection failed",
      help: "Check the network and try again. What has been downloaded is kept, and the download goes on from there.",
    },
    contextLength: {
      title: "The conversation is longer than the model’s context",
      help: "Start a new chat, shorten the message, or choose a longer context in Settings.",
    },
    invalidRequest: {
      title: "The model cannot do this request",
      help: "Check the values in Settings. What is wrong is named below.",
    },
    template: {
      title: "The model’s chat template failed",
      help: "The model file does not describe conversations in a way that works here. Choose another model.",
    },
    internal: {
      title: "Something went wrong",
      help: "Try again; if it keeps happening, reload the page. Please report it with the details below.",
    },
  },
};

type Widen<T> = T extends string
  ? string
  : T extends (...args: infer A) => string
    ? (...args: A) => string
    : T extends readonly string[]
      ? readonly string[]
      : { [K in keyof T]: Widen<T[K]> };

/** The texts of the page in one language: a missing or surplus key does not compile. */
export type Dictionary = Widen<typeof en>;
