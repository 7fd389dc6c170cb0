/** LangChain before 1.0, which needs its own version of `@langchain/core`: hence this folder. */
export { HumanMessage } from "@langchain/core/messages";
export { tool } from "@langchain/core/tools";
export { ChatOpenAI } from "@langchain/openai";
