/** Prompts: a conversation rendered by the chat template that a model file holds, as tokens. */
import type { Template } from "@huggingface/jinja"
import type { LlamaModel, Token } from "node-llama-cpp"
import type { ServerFailure } from "../Backend.js"
import { type ChatRequest, promptOf } from "../ChatRequest.js"
import * as Unsupported from "../internal/unsupported.js"
import * as Message from "../Message.js"
import { instruction } from "../StructuredOutput.js"
import * as Tools from "./embeddedTools.js"
import { templateMessages } from "./templateMessages.js"

/** A request cannot be made a prompt. */
export class PromptRefused extends Error {
  constructor(readonly failure: ServerFailure) {
    super(failure.message)
  }
}

/** A request as the model gets it. */
export interface Prompt {
  readonly tokens: ReadonlyArray<Token>
  /** Whether its last token opened the model's reasoning. */
  readonly opensThinking: boolean
  /** The beginning of the answer that the prompt holds already. */
  readonly begun: string
}

/** Of a file without a template. */
const chatMl =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

const control = 3

const describe = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")

type Fields = { readonly [key: string]: unknown }

const asFields = (message: Message.Message): Fields => {
  switch (message.role) {
    case "assistant": {
      const { content, thinking, toolCalls = [] } = message
      return {
        role: "assistant",
        content,
        ...(thinking === undefined ? {} : { reasoning_content: thinking }),
        ...(toolCalls.length === 0
          ? {}
          : {
              tool_calls: toolCalls.map(({ arguments: args, id, name }) => ({
                id,
                type: "function",
                function: { name, arguments: args }
              }))
            })
      }
    }
    case "tool":
      return { role: "tool", content: message.content, name: message.toolName, tool_call_id: message.toolCallId }
    default:
      return { role: message.role === "developer" ? "system" : message.role, content: Message.text(message) }
  }
}

/** The chat template of a model. */
export class ChatTemplate {
  readonly source: string
  /** How the model calls tools. */
  readonly form: Tools.ToolForm
  /** Whether the model can reason before it answers. */
  readonly thinks: boolean
  private template: Template | undefined
  private special: RegExp | undefined

  constructor(
    private readonly model: LlamaModel,
    private readonly jinja: typeof import("@huggingface/jinja"),
    /** Instructions for JSON only confuse the built-in model, which is held to it by a grammar. */
    private readonly builtIn: boolean
  ) {
    const { chat_template: source } = model.fileInfo.metadata.tokenizer as Fields
    this.source = typeof source === "string" ? source : chatMl
    this.form = Tools.formOf(this.source)
    this.thinks = this.source.includes("<think>") || this.source.includes("</think>")
  }

  /** Fails with `PromptRefused`. */
  prompt(request: ChatRequest): Prompt {
    if (request.suffix !== undefined) return this.whole(this.infill(request, request.suffix))
    // A raw prompt may contain special tokens.
    if (request.raw === true) return this.whole(this.withStart(this.model.tokenize(promptOf(request), true)))
    const all = this.messagesOf(request)
    const last = all.at(-1)
    const open = last?.role === "assistant" && (last.toolCalls ?? []).length === 0 ? last : undefined
    const messages = open === undefined ? all : all.slice(0, -1)
    const begun = open === undefined ? "" : this.begun(open)
    const rendered = this.render(messages, request, [...all.map(Message.text), open?.thinking ?? ""])
    const opensItself = /<think>\s*$/.test(rendered.text)
    let text = rendered.text
    if (begun !== "") {
      // The reasoning is over, so the tag that the template opened is closed, or was never opened.
      if (opensItself && open?.thinking === undefined) text += "\n</think>\n\n"
      text = opensItself && open?.thinking !== undefined ? text.replace(/<think>\s*$/, "") + begun : text + begun
    }
    const forced = Tools.isForced(request)
    if (forced) {
      if (opensItself && begun === "") text += "\n</think>\n\n"
      text += Tools.openingOf(this.form)
    }
    return {
      tokens: this.withStart(rendered.tokenize(text)),
      opensThinking: opensItself && begun === "" && !forced,
      begun: open?.content ?? ""
    }
  }

  private whole(tokens: ReadonlyArray<Token>): Prompt {
    return { tokens, opensThinking: false, begun: "" }
  }

  private begun({ content, thinking }: Message.AssistantMessage): string {
    return thinking === undefined || thinking === "" || !this.thinks
      ? content
      : `<think>\n${thinking}\n</think>\n\n${content}`
  }

  private withStart(tokens: ReadonlyArray<Token>): ReadonlyArray<Token> {
    const { bos, shouldPrependBosToken } = this.model.tokens
    return shouldPrependBosToken && bos !== null && tokens[0] !== bos ? [bos, ...tokens] : tokens
  }

  private infill(request: ChatRequest, after: string): ReadonlyArray<Token> {
    const { middle, prefix, suffix } = this.model.tokens.infill
    if (prefix === null || suffix === null) {
      throw new PromptRefused(
        Unsupported.failure([{ field: "suffix", reason: "this model cannot fill in the middle" }])
      )
    }
    const { model } = this
    return this.withStart([
      prefix,
      ...model.tokenize(promptOf(request)),
      suffix,
      ...model.tokenize(after),
      ...(middle === null ? [] : [middle])
    ])
  }

  private messagesOf(request: ChatRequest): ReadonlyArray<Message.Message> {
    const messages = templateMessages(request.messages, false).flatMap((message): ReadonlyArray<Message.Message> => {
      if (message.role !== "system" && message.role !== "developer") return [message]
      const { content } = message
      const rest =
        this.builtIn && content.endsWith(instruction) ? content.slice(0, -instruction.length).trimEnd() : content
      return rest === "" ? [] : [{ ...message, content: rest }]
    })
    return this.form === "told" ? Tools.asText(messages, Tools.offered(request)) : messages
  }

  /**
   * The conversation as text. Templates that want one system message, alternating roles, or no system message at all, get
   * the conversation in that form when they refuse it as it is.
   */
  private render(messages: ReadonlyArray<Message.Message>, request: ChatRequest, contents: ReadonlyArray<string>) {
    const guard = this.guard(contents)
    const tools = this.form === "told" ? [] : Tools.offered(request).map(Tools.described)
    const { tokens } = this.model
    const kwargs = request.extra?.["chat_template_kwargs"]
    const context = {
      ...(typeof kwargs === "object" && kwargs !== null ? kwargs : {}),
      ...(tools.length === 0 ? {} : { tools }),
      bos_token: tokens.bosString ?? "",
      eos_token: tokens.eosString ?? "",
      add_generation_prompt: true,
      ...(request.think === undefined ? {} : { enable_thinking: request.think !== false })
    }
    const attempt = (given: ReadonlyArray<Message.Message>): string => {
      this.template ??= new this.jinja.Template(this.source)
      return this.template.render({ ...context, messages: given.map((one) => guard.protect(asFields(one))) })
    }
    const strict = () => templateMessages(messages, true)
    let problem: unknown
    for (const form of [() => messages, strict, () => withoutSystem(strict())]) {
      try {
        return { text: attempt(form()), tokenize: guard.tokenize }
      } catch (cause) {
        problem ??= cause
      }
    }
    const message = `the chat template of the model refuses the conversation: ${describe(problem)}`
    throw new PromptRefused({ reason: "invalid-request", message })
  }

  /**
   * Control tokens inside of messages are text: such messages are marked before the template puts them into its own, and
   * tokenized apart.
   */
  private guard(contents: ReadonlyArray<string>) {
    const { model } = this
    const plain = { protect: (fields: Fields) => fields, tokenize: (text: string) => model.tokenize(text, true) }
    const special = this.specials()
    if (special === undefined || !contents.some((text) => special.test(text))) return plain
    const all = contents.join("")
    let code = 0xe000
    const unused = (): string => {
      while (all.includes(String.fromCharCode(code))) code++
      return String.fromCharCode(code++)
    }
    const [open, close] = [unused(), unused()]
    const mark = (text: unknown): unknown =>
      typeof text === "string" && special.test(text)
        ? text.replace(/^(\s*)([\s\S]*?)(\s*)$/, (_, before, inner, after) => before + open + inner + close + after)
        : text
    return {
      protect: (fields: Fields): Fields => ({
        ...fields,
        content: mark(fields["content"]),
        ...(fields["reasoning_content"] === undefined ? {} : { reasoning_content: mark(fields["reasoning_content"]) })
      }),
      tokenize: (text: string): Array<Token> =>
        text
          .split(new RegExp(`${open}([\\s\\S]*?)${close}`))
          .flatMap((part, i) => (part === "" ? [] : model.tokenize(part, i % 2 === 0)))
    }
  }

  private specials(): RegExp | undefined {
    if (this.special !== undefined) return this.special
    const { token_type: types, tokens } = (this.model.fileInfo.metadata.tokenizer as { readonly ggml: Fields }).ggml
    if (!Array.isArray(types) || !Array.isArray(tokens)) return undefined
    const words = tokens.filter((word, i) => types[i] === control && typeof word === "string" && word !== "")
    this.special = words.length === 0 ? /(?!)/ : new RegExp(words.map(escaped).join("|"))
    return this.special
  }
}

/** The system message as the beginning of the first message of the user. */
const withoutSystem = (messages: ReadonlyArray<Message.Message>): ReadonlyArray<Message.Message> => {
  const [first, second, ...rest] = messages
  if (first?.role !== "system" || second?.role !== "user") return messages
  return [Message.user(`${first.content}\n\n${Message.text(second)}`), ...rest]
}
