/** LangChain before 1.0, which needs its own version of `@langchain/core`: its packages are in this folder. */
export { HumanMessage } from "@langchain/core/messages";
export { tool } from "@langchain/core/tools";
export { ChatOpenAI } from "@langchain/openai";
