import { arenaEn } from "./arena-en";
import { serverEn, serverErrorsEn } from "./server-en";
import { teachEn } from "./teach-en";
import { toolsEn } from "./tools-en";

/** Every text of the page in English. The other dictionaries have this shape. */
export const en = {
  ...arenaEn,
  ...serverEn,
  ...teachEn,
  ...toolsEn,
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
  searchConversations: "Search conversations",
  nothingFound: "Nothing found.",
  readingConversations: "Reading your conversations…",
  listUnavailable: "Your conversations cannot be shown now.",
  pinned: "Pinned",
  pin: "Pin",
  unpin: "Unpin",
  rename: "Rename",
  newTitle: "New title",
  saveTitle: "Save title",
  more: "More",
  moreFor: (title: string) => `More for “${title}”`,
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
  remove: "Remove",
  editQuestion: "Edit question",
  editMessage: "Edit the message",
  removeMessage: "Remove the message",
  editing: "You are editing a question. The earlier version is kept.",
  copy: "Copy",
  copied: "Copied",
  copyAnswer: "Copy answer",
  copyCode: "Copy code",
  you: "You",
  jumpToEnd: "Go to the latest",
  waitingForModel: "Your message will be answered as soon as the model is ready.",
  starting: "Starting",
  reading: (done: number, total: number) => `Reading your message… ${done} / ${total} tokens`,
  answerContinues: "The interrupted answer goes on",
  continues: "Goes on after an interruption",
  continuesSoon: "Interrupted: goes on as soon as the model is ready",
  answerDone: "Answer complete",
  answerStopped: "Stopped",
  stopped: "You stopped this answer.",
  interrupted: "This answer was interrupted.",
  writtenElsewhere: "Being written in another tab",
  answer: "Answer",
  thinking: "Thinking",
  versions: "Versions of this message",
  previousVersion: "Previous version",
  nextVersion: "Next version",
  versionOf: (number: number, count: number) => `${number} / ${count}`,
  omitted: (count: number) =>
    `The conversation is longer than the model’s context. The first ${count} messages were left out.`,
  contextUsed: (used: number, size: number) =>
    `${used.toLocaleString("en")} of ${size.toLocaleString("en")} tokens of context used`,
  shownAsText: "This message cannot be formatted. Here is its text.",
  showAll: (characters: number) => `Show all ${characters.toLocaleString("en")} characters`,
  unreadable: "Unreadable message",
  unreadableHelp: "This stored message cannot be read. It is kept as it is.",
  pasteTooLong: (characters: number) =>
    `This text has ${characters.toLocaleString("en")} characters, more than a model can read. ` +
    "Paste a shorter part.",
  reachedMaxTokens: "The answer reached the limit of tokens set in Settings.",
  reachedContext:
    "The conversation has filled the model’s context. Start a new chat, or choose a longer context in " +
    "Settings.",
  tokensPerSecond: (rate: string) => `${rate} tokens/s`,
  tokenCount: (count: number) => (count === 1 ? "1 token" : `${count} tokens`),
  promptTokens: (count: number, cached: number) =>
    cached > 0 ? `prompt ${count} (${cached} reused)` : `prompt ${count}`,
  imageLink: (text: string) => `Image: ${text}`,

  // History: what stands in its way
  readingConversation: "Reading the conversation…",
  readFailed: "This conversation could not be read",
  readFailedHelp: "It is still stored, and nothing will be written to it. Try again, or start a new chat.",
  deletedElsewhere: "This conversation was deleted in another tab.",
  history: {
    waiting: "Your conversations are not available yet: another tab or the browser is still using them.",
    blocked:
      "Your conversations are open in a tab with an older version of this page. Close or reload that tab.",
    newer: "A newer version of this page is open in another tab. Reload this tab to see your conversations.",
    failed: "This browser cannot store conversations now. They stay in this tab until you close it.",
    unsaved: "The latest changes could not be saved. They stay in this tab until you close it.",
    full: "The browser’s storage is full. The latest changes stay in this tab until you close it.",
    unreadable: "The list of conversations could not be read.",
  },
  exportAll: "Export conversations",
  exportMarkdown: "Export as Markdown",
  exportHelp:
    "JSON holds everything and can be imported again. Markdown is for reading and has the versions shown.",
  importAll: "Import conversations",
  imported: (count: number) =>
    count === 1 ? "1 conversation was imported." : `${count} conversations were imported.`,
  importNotStored: "The conversations could not be stored. Nothing was imported.",
  importFailed: "The file could not be imported. It must be a JSON export of this page.",

  // Welcome
  welcome: "What would you like to know?",
  suggestions: [
    "What is the capital of France?",
    "Explain photosynthesis to a ten-year-old",
    "Write a short poem about the sea",
  ],

  // Models
  model: "Model",
  addModelHelp: "Any GGUF file of a supported family works. It is opened here and goes nowhere else.",
  openFile: "Open a GGUF file",
  openFileHelp: "For a split model, choose all its parts. You can also drop files anywhere on the page.",
  dropHere: "Drop the GGUF file to open it",
  notGguf: (name: string) => `“${name}” is not a GGUF file.`,
  models: "Models",
  searchModels: "Search models",
  searchModelsHint: "Search, or paste an address or owner/name",
  noModelFound: "No model found.",
  onThisDevice: "On this device",
  recommended: "Recommended for this device",
  catalogue: "All models",
  fromServer: "On this server",
  added: "Added by you",
  chosen: "chosen",
  inspectName: (name: string) => `Inspect ${name}`,
  inspecting: "Reading the header of the model…",
  inspectIt: "Inspect",
  fileOf: (repository: string) => `File of ${repository}`,
  useModel: "Use this model",
  downloadOnly: "Download for later",
  pause: "Pause",
  resume: "Resume",
  pauseDownload: (name: string) => `Pause ${name}`,
  resumeDownload: (name: string) => `Resume ${name}`,
  dropDownload: (name: string) => `Stop downloading ${name}`,
  downloads: "Downloads",
  downloaded: (name: string) => `${name} has been downloaded`,
  downloadStates: {
    waiting: "waiting to be downloaded",
    running: "being downloaded",
    paused: "paused",
    failed: "download failed",
  },
  fits: { fits: "fits", tight: "may not fit", "too-large": "too large" },
  needsMemory: (needed: string, context: number, verdict: string) =>
    `Memory: about ${needed} with a context of ${context.toLocaleString("en")}. ${verdict}`,
  doubt: (needed: string) =>
    `It may not fit: it needs about ${needed} of memory, and without room, loading ends with an error. ` +
    "Download it all the same?",
  downloadAnyway: (size: string | null) => (size === null ? "Download anyway" : `Download anyway – ${size}`),
  fitVerdicts: {
    fits: "It fits into this device’s memory.",
    tight: "It may not fit: the browser does not say how much memory this device has.",
    "too-large": "It is too large for this device.",
  },
  contextTooLong: "There is no room for so long a context: inspect it to choose a shorter one.",
  noRoom: (missing: string, free: string) =>
    `It needs ${missing} of storage, and the browser has ${free} left. Delete models you do not use.`,
  runsOn: { webgpu: "Runs on the GPU", cpu: "Runs on the CPU" },
  expectedSpeed: (rate: string) => `about ${rate} tokens/s`,
  runsNot: "Does not run here",
  memoryNeeded: (weights: string, context: string, sum: string) =>
    `Memory: ${weights} for the weights + ${context} for the context = ${sum}`,
  withTemplate: "chat template",
  withoutTemplate: "no chat template",
  noLicense: "licence not stated",
  goodAt: (strengths: string) => `Good for: ${strengths}`,
  comma: ", ",
  strengths: {
    small: "a quick first try",
    chat: "chat",
    languages: "several languages",
    code: "code",
    reasoning: "reasoning",
    "long-context": "long texts",
    history: "seeing how models were in 2023",
  },
  why: {
    webgpu: (facts: string) => `A chat model that suits this device’s GPU and fits its memory: ${facts}.`,
    cpu: (facts: string) =>
      `A chat model that is quick enough on this device’s CPU and fits its memory: ${facts}.`,
  },
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
  stalled: "waiting for data…",
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
  hub: "Model hub",
  hubEndpoint: "Address of the hub, or of a mirror",
  hubHelp: "Models are downloaded from there. Empty: the usual one.",
  hubInvalid: "This is not a web address. The old one is still used.",
  answers: "Answers",
  temperature: "Temperature",
  temperatureHelp:
    "0 gives the most likely answer every time; higher values vary more. “Regenerate” uses at least 0.7, so" +
    " that another answer comes.",
  labelled: (label: string, value: string) => `${label}: ${value}`,
  suitsModel: (value: string) => `${value} (suits the model)`,
  suitModel: "Use what suits the model",
  maxTokens: "Max tokens",
  maxTokensHelp: "The longest answer, in tokens.",
  thinkingBudget: "Thinking budget",
  thinkingBudgetHelp: "The most tokens that a reasoning model may think before it answers. 0: no thinking.",
  noLimit: "No limit",
  contextLength: "Context length",
  contextLengthHelp:
    "How much of the conversation the model can read. A longer context needs more memory. The model loads" +
    " again.",
  device: "Device",
  deviceHelp:
    "Automatic uses the GPU if there is a hardware one, and the CPU if not. A change loads the model again.",
  template: "Chat template",
  templateHelp: (model: string) =>
    `How messages become a prompt for ${model}; other models keep theirs. Only models from before templates` +
    " need another than their own.",
  templateUsed: (name: string) => `template ${name}`,
  templateOfFile: "The model’s own",
  templates: {
    chatml: "ChatML",
    alpaca: "Alpaca",
    vicuna: "Vicuna",
    koala: "Koala",
    "open-assistant": "Open Assistant",
    "gpt4all-j": "GPT4All-J",
    plain: "None: continue the text",
  } as Record<string, string>,
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
  storageShort: (used: string, quota: string) => `Storage: ${used} of ${quota}`,
  storageUsed: (used: string, quota: string) => `${used} used of ${quota} that the browser allows this page`,
  persistent: "Kept until you delete it.",
  notPersistent: "The browser may clear this when the disk is full.",
  askPersistent: "Ask the browser to keep it",
  persistentRefused: "The browser did not agree. Installing the page, or using it more often, usually helps.",
  storedConversations: "Conversations",
  unknownModel: "Remains of a download",
  storedModels: "Stored models",
  noStoredModels: "No model is stored yet.",
  sharedStorage: "Share models with other sites",
  sharedStorageHelp:
    "Models are taken from the browser's storage for all sites, and kept there: one copy serves every " +
    "site. The browser may delete them, and its own settings list them.",
  storedForAll: "kept by the browser for all sites",
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
  chooseFile: "Choose another file",
  continueOnCpu: "Continue on the CPU",
  errors: {
    server: serverErrorsEn,
    insecure: {
      title: "This page needs a secure address",
      help:
        "Browsers allow WebGPU on https:// and on localhost only. Open the page through one of these, or " +
        "continue on the CPU, which is slower.",
    },
    noWebGpu: {
      title: "This browser offers no WebGPU",
      help:
        "Continue on the CPU, which is slower; you can switch back in Settings. For WebGPU, use Chrome or" +
        " Edge 113 or later, Safari 26, or Firefox 141 or later, and keep “graphics acceleration” on in " +
        "the browser’s settings. On Linux, Chrome may need chrome://flags/#enable-unsafe-webgpu; Firefox " +
        "may need dom.webgpu.enabled in about:config.",
    },
    noSimd: {
      title: "This browser cannot run models",
      help: "It has neither WebGPU nor WebAssembly SIMD. Update it, or use another browser.",
    },
    deviceWrong: {
      title: "The graphics device gives wrong results",
      help:
        "It failed a short self-test and is not used. Continue on the CPU, which is slower, or update the" +
        " graphics driver and the browser.",
    },
    modelNotFound: {
      title: "The model was not found",
      help: "Check the address. If the file needs a login, download it yourself and open it as a file.",
    },
    corrupt: {
      title: "This is not a sound model file",
      help:
        "The file is damaged, or it is not a model at all. Check the address, and try again: it is " +
        "downloaded once more.",
    },
    corruptOwn: {
      title: "This file cannot be read as a model",
      help:
        "It is damaged, incomplete or has changed on the disk. Choose it again, or download it again from" +
        " its source.",
    },
    modelFiles: {
      title: "These files do not form a model",
      help: "Choose one GGUF file, or all the parts of one split model together.",
    },
    unsupported: {
      title: "This model is not supported yet",
      help: "Choose another model, or another quantization of this one. Below is what is missing.",
    },
    outOfMemory: {
      title: "Not enough memory for this model",
      help: "Close other tabs and programs, choose a shorter context in Settings, or choose a smaller model.",
    },
    quota: {
      title: "Not enough storage for this model",
      help: (needed: string, available: string, missing: string) =>
        `It needs ${needed} and the browser has ${available} left: ${missing} are missing. ` +
        "Delete models you do not use, or free disk space.",
      helpUnknown: "Delete models you do not use, or free disk space.",
    },
    deviceLost: {
      title: "The connection to the graphics device was lost",
      help:
        "This can happen after sleep, a driver update, or when memory runs out. Your conversation is " +
        "safe. Try again, or continue on the CPU, which is slower; you can switch back in Settings.",
    },
    network: {
      title: "The connection failed",
      help: "The download continues by itself when the network is back. What has been downloaded is kept.",
    },
    contextLength: {
      title: "The message is longer than the model’s context",
      help: "Shorten the message, or choose a longer context in Settings.",
    },
    invalidRequest: {
      title: "The model cannot process this request",
      help: "Check the values in Settings. Below is what is wrong.",
    },
    template: {
      title: "The model’s chat template failed",
      help: "The model file’s chat template does not work here. Choose another model.",
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
