/** Texts of models on servers, in English. */
export const serverEn = {
  notPrivate: "not private",
  notPrivateLine: (host: string) => `Not private: the whole conversation is sent to ${host}`,
  serverTagline: (host: string) => `This model runs on ${host}. What you write here is sent there.`,
  onServer: (host: string) => `on ${host}`,
  onOtherServers: "On other servers",
  connectingTo: (host: string) => `Connecting to ${host}`,
  addServer: "Add a server",
  serverTitle: "Use a model on a server",
  serverHelp:
    "Any server with OpenAI’s API will do: one of yours, such as nomoat serve, vLLM or llama.cpp, or a " +
    "service on the web.",
  serverWarning:
    "Not private: each time you ask, the whole conversation and the system prompt are sent to this server, " +
    "also what was said before with other models. Whoever runs it can read and keep them.",
  serverUnencrypted: "http:// is not encrypted: others in the network can read along, and read the key.",
  serverAddress: "Address",
  serverAddressWrong: "This is not an address of a server. It looks like https://host/v1.",
  serverKey: "API key",
  serverKeyHelp:
    "It stays in this browser, unencrypted, until you delete it, and is sent to this server only. Leave it " +
    "empty if the server wants none.",
  connect: "Show its models",
  serverModel: "Model",
  serverListed: (count: number) =>
    count === 1 ? "The server has 1 model." : `The server has ${count} models.`,
  serverHasNoList: "The server does not tell its models. Check the address, or type a model’s name.",
  serverNoMemory:
    "It needs no download and no memory here. Teaching, adapters and estimates of memory and speed are for " +
    "models on this device.",
  serverHasKey: "Its API key is kept in this browser.",
  otherOnServer: "Other models or key",
  deleteServer: "Delete server and key",
  teachNotOnServer:
    "This model runs on a server, and only models on this device can learn or take adapters. Choose one to " +
    "teach it. What you collect here is kept.",
  settingsNotOnServer: "Context length, device and chat template are for models on this device only.",
  serversTemperature: "the server’s choice",
};

/** Errors of servers: what is wrong, and what to do. */
export const serverErrorsEn = {
  unreachable: {
    title: "The server cannot be reached",
    help: (origin: string) =>
      "Check that it runs and that the address is right. It must also allow this page to ask it (CORS): " +
      `add ${origin} to the origins that it accepts.`,
  },
  blocked: {
    title: "The browser blocks this address",
    help:
      "This page came over https://, so browsers let it ask no http:// address but this device’s own. Use " +
      "an https:// address.",
  },
  slow: {
    title: "The server does not answer in time",
    help: "It may be busy, or still be loading its model. Try again, or check the address.",
  },
  refused: {
    title: "The server refuses the API key",
    help: "The key is missing or wrong, or may not use this model. Correct it in the list of models.",
  },
  notFound: {
    title: "The server does not have this model",
    help: "Choose one of the models that it lists, and check its address: most end in /v1.",
  },
  busy: {
    title: "The server takes no more requests for now",
    help: "You may have reached a limit, or have no credit left. Wait a little, then try again.",
  },
  failed: {
    title: "The server failed",
    help: "The fault is on its side. Try again later, or choose another model.",
  },
  notApi: {
    title: "This is not OpenAI’s API",
    help: "Something answers at this address, but not as it should. Check the address: most end in /v1.",
  },
  tooLong: {
    title: "The conversation is longer than the model’s context",
    help: "Shorten the message, or start a new chat.",
  },
};
