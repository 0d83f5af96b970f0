import OpenAI, { APIError, BadRequestError, NotFoundError } from "openai"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { startGateway, type TestGateway } from "../support/gateway.js"

const model = "llama3.2:3b"
const story = "Once upon a time there was a robot."
const messages = [{ role: "user" as const, content: "Tell me a story." }]

const collect = async <A>(stream: AsyncIterable<A>): Promise<Array<A>> => {
  const all: Array<A> = []
  for await (const one of stream) all.push(one)
  return all
}

describe.each(["ollama", "openai"] as const)("the openai client over a fleet of %s servers", (kind) => {
  let server: FakeServer
  let gateway: TestGateway
  let client: OpenAI

  const weather = { name: "weather", arguments: { city: "Berlin" } }
  const start = kind === "ollama" ? startFakeOllama : startFakeOpenAI

  beforeAll(async () => {
    server = await start({
      models: [
        model,
        { name: "coder", capabilities: ["completion", "insert"] },
        { name: "embedder", capabilities: ["embedding"] },
        { name: "seer:7b", capabilities: ["completion", "vision", "tools"] }
      ],
      reply: ({ messages = [], prompt, tools }) => {
        if (String(prompt).includes("2 + 2")) return " 4, and no more."
        const question = String(messages.at(-1)?.content ?? "")
        if (tools?.length > 0 && !messages.some((m: { role: string }) => m.role === "tool"))
          return { tokens: [], toolCalls: [weather] }
        if (question.includes("capital")) return `{"capital":"Paris"}`
        if (question.includes("think")) return { thinking: ["Hm, ", "well."], tokens: "Done." }
        return story
      }
    })
    gateway = await startGateway([server.url])
    client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: "none", maxRetries: 0 })
  })
  afterAll(async () => {
    await gateway.close()
    await server.stop()
  })

  it("answers without a stream", async () => {
    const { data, response } = await client.chat.completions.create({ model, messages }).withResponse()
    expect(data).toMatchObject({
      object: "chat.completion",
      model,
      choices: [{ index: 0, message: { role: "assistant", content: story, refusal: null }, finish_reason: "stop" }]
    })
    expect(data.usage?.total_tokens).toBe((data.usage?.prompt_tokens ?? 0) + (data.usage?.completion_tokens ?? 0))
    expect(data.usage?.completion_tokens).toBeGreaterThan(0)
    expect(response.headers.get("x-aicortex-server")).toBe("server-1")
    expect(response.headers.get("x-aicortex-attempts")).toBe("1")
    expect(response.headers.get("x-request-id")).toMatch(/^req-/)
    expect(JSON.stringify([...response.headers])).not.toContain(String(server.port))
  })

  it("streams, with usage only on request", async () => {
    const chunks = await collect(await client.chat.completions.create({ model, messages, stream: true }))
    expect(chunks[0]?.choices[0]?.delta).toEqual({ role: "assistant", content: "" })
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("")).toBe(story)
    expect(chunks.at(-1)?.choices[0]?.finish_reason).toBe("stop")
    expect(chunks.some((chunk) => chunk.usage)).toBe(false)
    expect(new Set(chunks.map((chunk) => chunk.id)).size).toBe(1)

    const counted = await collect(
      await client.chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } })
    )
    expect(counted.at(-1)).toMatchObject({ choices: [] })
    expect(counted.at(-1)?.usage?.completion_tokens).toBeGreaterThan(0)
    expect(counted.filter((chunk) => chunk.usage)).toHaveLength(1)
  })

  it("returns reasoning in both of its fields", async () => {
    const ask = {
      model,
      messages: [{ role: "user" as const, content: "please think" }],
      reasoning_effort: "low" as const
    }
    if (kind === "ollama")
      await server.setBehaviour({
        models: [
          { name: model, capabilities: ["completion", "tools", "thinking"] },
          { name: "coder", capabilities: ["completion", "insert"] },
          { name: "embedder", capabilities: ["embedding"] },
          { name: "seer:7b", capabilities: ["completion", "vision", "tools"] }
        ]
      })
    const { choices } = await client.chat.completions.create(ask)
    expect(choices[0]?.message).toMatchObject({
      content: "Done.",
      reasoning: "Hm, well.",
      reasoning_content: "Hm, well."
    })
    const chunks = await collect(await client.chat.completions.create({ ...ask, stream: true }))
    const deltas = chunks.map((chunk) => chunk.choices[0]?.delta as { reasoning?: string; reasoning_content?: string })
    expect(deltas.map((delta) => delta.reasoning ?? "").join("")).toBe("Hm, well.")
    expect(deltas.map((delta) => delta.reasoning_content ?? "").join("")).toBe("Hm, well.")
  })

  it("calls tools, complete and streamed, and accepts their results", async () => {
    const tools = [
      {
        type: "function" as const,
        function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } }
      }
    ]
    const { choices } = await client.chat.completions.create({ model, messages, tools })
    expect(choices[0]).toMatchObject({ finish_reason: "tool_calls", message: { content: null } })
    const call = choices[0]?.message.tool_calls?.[0]
    expect(call).toMatchObject({ type: "function", function: { name: "weather", arguments: `{"city":"Berlin"}` } })

    const stream = client.chat.completions.stream({ model, messages, tools })
    const final = await stream.finalChatCompletion()
    expect(final.choices[0]?.message.tool_calls).toMatchObject([
      { function: { name: "weather", arguments: `{"city":"Berlin"}` } }
    ])
    expect(final.choices[0]?.finish_reason).toBe("tool_calls")

    const answered = await client.chat.completions.create({
      model,
      tools,
      messages: [
        ...messages,
        choices[0]?.message as OpenAI.ChatCompletionMessage,
        { role: "tool", tool_call_id: call?.id ?? "", content: "sunny" }
      ]
    })
    expect(answered.choices[0]?.message.content).toBe(story)
    const sent = server.chatRequests.at(-1)?.body.messages.at(-1)
    expect(sent).toMatchObject({ role: "tool", content: "sunny", tool_call_id: call?.id })
    if (kind === "ollama") expect(sent.tool_name).toBe("weather")
  })

  it("forwards names of speakers, the detail of images, and strict of tools", async () => {
    const image_url = { url: "data:image/png;base64,aGk=", detail: "low" as const }
    const questions = [
      { role: "system" as const, content: "Be kind.", name: "house" },
      { role: "user" as const, content: [{ type: "image_url" as const, image_url }], name: "alice" },
      { role: "assistant" as const, content: "A cat.", name: "eve" },
      { role: "user" as const, content: "Sure?", name: "bob" }
    ]
    const tools = [{ type: "function" as const, function: { name: "weather", parameters: {}, strict: true } }]
    await client.chat.completions.create({ model: "seer:7b", messages: questions, tools })
    const { body } = server.chatRequests.at(-1) ?? { body: {} }
    if (kind === "openai") {
      expect(body.messages).toEqual(questions)
      expect(body.tools[0].function.strict).toBe(true)
    } else expect(body.messages[1]).toEqual({ role: "user", content: "", images: ["aGk="] })

    const wrong = client.chat.completions.create({
      model,
      messages: [
        { role: "user", content: [{ type: "image_url", image_url: { ...image_url, detail: "sharp" as never } }] }
      ]
    })
    await expect(wrong).rejects.toMatchObject({ status: 400, param: "messages[0].content[0].image_url.detail" })
    const nameless = client.chat.completions.create({
      model,
      messages: [{ ...questions[0], name: 5 as never } as never]
    })
    await expect(nameless).rejects.toMatchObject({ status: 400, param: "messages[0].name" })
  })

  it("gives several answers at once", async () => {
    const { choices } = await client.chat.completions.create({ model, messages, n: 3 })
    expect(choices.map(({ index, message }) => [index, message.content])).toEqual([0, 1, 2].map((i) => [i, story]))
    const chunks = await collect(await client.chat.completions.create({ model, messages, n: 2, stream: true }))
    for (const index of [0, 1]) {
      const mine = chunks.flatMap(({ choices }) => choices.filter((choice) => choice.index === index))
      expect(mine.map(({ delta }) => delta.content ?? "").join("")).toBe(story)
      expect(mine.at(-1)?.finish_reason).toBe("stop")
    }
  })

  it("checks JSON against its schema", async () => {
    const format = {
      type: "json_schema" as const,
      json_schema: {
        name: "city",
        schema: { type: "object", properties: { capital: { type: "string" } }, required: ["capital"] }
      }
    }
    const ask = {
      model,
      messages: [{ role: "user" as const, content: "The capital of France?" }],
      response_format: format
    }
    const { choices } = await client.chat.completions.create(ask)
    expect(JSON.parse(choices[0]?.message.content ?? "")).toEqual({ capital: "Paris" })
    const chunks = await collect(await client.chat.completions.create({ ...ask, stream: true }))
    expect(JSON.parse(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""))).toEqual({
      capital: "Paris"
    })
  })

  it("forwards the whole conversation, in order", async () => {
    const said = [
      { role: "system", content: "Be brief." },
      { role: "user", content: "First." },
      { role: "assistant", content: "Yes?" },
      {
        role: "user",
        content: [
          { type: "text", text: "Second" },
          { type: "text", text: " part." }
        ]
      }
    ] as const
    for (const stream of [false, true]) {
      const answer = await client.chat.completions.create({
        model,
        messages: [...said.map((one) => ({ ...one }))],
        stream
      } as never)
      if (stream) await collect(answer as never)
      const sent = server.chatRequests.at(-1)?.body.messages as ReadonlyArray<{ role: string; content: unknown }>
      expect(sent.map(({ role }) => role)).toEqual(["system", "user", "assistant", "user"])
      expect(sent.slice(0, 3).map(({ content }) => content)).toEqual(["Be brief.", "First.", "Yes?"])
      const last = sent[3]?.content
      const text = Array.isArray(last) ? last.map((part) => part.text).join("") : last
      expect(text).toBe("Second part.")
    }
  })

  it("forwards every parameter that the server supports", async () => {
    await client.chat.completions.create({
      model,
      messages,
      temperature: 0.2,
      top_p: 0.5,
      max_completion_tokens: 77,
      stop: ["END"],
      seed: 4,
      frequency_penalty: 0.5,
      presence_penalty: -0.5
    })
    const body = server.chatRequests.at(-1)?.body
    const values = {
      temperature: 0.2,
      top_p: 0.5,
      stop: ["END"],
      seed: 4,
      frequency_penalty: 0.5,
      presence_penalty: -0.5
    }
    if (kind === "ollama") expect(body.options).toMatchObject({ ...values, num_predict: 77 })
    else expect(body).toMatchObject({ ...values, max_tokens: 77 })
  })

  it("embeds, as numbers and packed", async () => {
    const plain = await client.embeddings.create({ model: "embedder", input: ["one", "two"], encoding_format: "float" })
    expect(plain.data).toHaveLength(2)
    expect(plain.data[0]?.embedding).toHaveLength(8)
    // The client asks for base64 by itself, and unpacks it.
    const packed = await client.embeddings.create({ model: "embedder", input: "one" })
    expect(packed.data[0]?.embedding).toHaveLength(8)
    for (const [i, value] of (packed.data[0]?.embedding ?? []).entries()) {
      expect(value).toBeCloseTo(plain.data[0]?.embedding[i] ?? 0, 5)
    }
    expect(plain.usage.prompt_tokens).toBeGreaterThan(0)
  })

  it("lists models", async () => {
    const ids = (await client.models.list()).data.map(({ id }) => id)
    expect(ids).toContain(model)
    expect(ids).toContain("auto")
    expect((await client.models.retrieve(model)).id).toBe(model)
    await expect(client.models.retrieve("nope")).rejects.toBeInstanceOf(NotFoundError)
  })

  it("returns responses, complete and streamed", async () => {
    const whole = await client.responses.create({ model, input: "Tell me a story.", instructions: "Be brief." })
    expect(whole.output_text).toBe(story)
    expect(whole.status).toBe("completed")
    expect(server.chatRequests.at(-1)?.body.messages[0]).toMatchObject({ role: "system", content: "Be brief." })
    const events = await collect(await client.responses.create({ model, input: "Tell me a story.", stream: true }))
    expect(events[0]?.type).toBe("response.created")
    expect(events.flatMap((e) => (e.type === "response.output_text.delta" ? [e.delta] : [])).join("")).toBe(story)
    const last = events.at(-1)
    expect(last?.type === "response.completed" && last.response.output[0]).toMatchObject({
      type: "message",
      content: [{ type: "output_text", text: story }]
    })
    expect(events.map((e) => e.sequence_number)).toEqual(events.map((_, i) => i))
    const tool = await client.responses.create({
      model,
      input: "weather?",
      tools: [{ type: "function", name: "weather", parameters: { type: "object" }, strict: false }]
    })
    expect(tool.output).toMatchObject([{ type: "function_call", name: "weather", arguments: `{"city":"Berlin"}` }])
    const output = [
      { type: "input_text" as const, text: "It " },
      { type: "input_text" as const, text: "rains." }
    ]
    await client.responses.create({
      model,
      input: [
        { type: "function_call", call_id: "c", name: "weather", arguments: "{}" },
        { type: "function_call_output", call_id: "c", output }
      ]
    })
    expect(server.chatRequests.at(-1)?.body.messages.at(-1)).toMatchObject({ role: "tool", content: "It rains." })
    const final = await client.responses.stream({ model, input: "Tell me a story." }).finalResponse()
    expect(final.output_text).toBe(story)
  })

  it("returns log probabilities", async () => {
    const ask = { model, messages, logprobs: true, top_logprobs: 2 }
    const whole = await client.chat.completions.create(ask)
    expect(whole.choices[0]?.message.content).toBe(story)
    const tokens = whole.choices[0]?.logprobs?.content ?? []
    expect(tokens.map(({ token }) => token).join("")).toBe(story)
    expect(tokens[0]).toMatchObject({ logprob: -0.25, top_logprobs: [{}, {}] })
    const chunks = await collect(await client.chat.completions.create({ ...ask, stream: true }))
    for (const { choices } of chunks) {
      const [choice] = choices
      if (choice?.delta.content) expect(choice.logprobs?.content?.[0]?.token).toBe(choice.delta.content)
    }
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("")).toBe(story)
    const plain = await client.chat.completions.create({ model, messages })
    expect(plain.choices[0]?.logprobs).toBeNull()
  })

  it("completes a text without a template", async () => {
    const { data, response } = await client.completions
      .create({ model, prompt: "Once", echo: true, max_tokens: 50, temperature: 0.2, seed: 4, stop: ["END"] })
      .withResponse()
    expect(data).toMatchObject({
      object: "text_completion",
      model,
      choices: [{ index: 0, text: `Once${story.slice("Once".length)}`, logprobs: null, finish_reason: "stop" }]
    })
    expect(data.usage?.completion_tokens).toBeGreaterThan(0)
    expect(response.headers.get("x-aicortex-server")).toBe("server-1")
    const sent = server.chatRequests.at(-1)
    if (kind === "ollama") {
      expect(sent?.path).toBe("/api/generate")
      expect(sent?.body).toMatchObject({ prompt: "Once", raw: true, options: { num_predict: 50, temperature: 0.2 } })
    } else {
      expect(sent?.path).toBe("/v1/completions")
      expect(sent?.body).toMatchObject({ prompt: "Once", max_tokens: 50, temperature: 0.2, stop: ["END"] })
    }
    const chunks = await collect(await client.completions.create({ model, prompt: "Once", stream: true }))
    expect(chunks.map((chunk) => chunk.choices[0]?.text ?? "").join("")).toBe(story.slice("Once".length))
    expect(chunks.at(-1)?.choices[0]?.finish_reason).toBe("stop")
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1)
    // OpenAI's own limit, also where a server has none.
    const { max_tokens, options } = server.chatRequests.at(-1)?.body ?? {}
    expect(max_tokens ?? options.num_predict).toBe(16)
  })

  it("applies the chat template to a text on request", async () => {
    const ask = { model, prompt: "Once", raw: false }
    expect((await client.completions.create(ask)).choices[0]?.text).toBe(story)
    expect(server.chatRequests.at(-1)?.body.messages).toEqual([{ role: "user", content: "Once" }])
  })

  it("fills in the middle", async () => {
    const ask = { model: "coder", prompt: "let sum = // 2 + 2 =", suffix: "\n}\n" }
    expect((await client.completions.create(ask)).choices[0]?.text).toBe(" 4, and no more.")
    const sent = server.chatRequests.at(-1)?.body
    expect(sent).toMatchObject({ prompt: ask.prompt, suffix: ask.suffix })
    expect(sent).not.toHaveProperty("raw")
    const chunks = await collect(await client.completions.create({ ...ask, stream: true }))
    expect(chunks.map((chunk) => chunk.choices[0]?.text ?? "").join("")).toBe(" 4, and no more.")
    // At the end of a file nothing follows.
    await client.completions.create({ ...ask, suffix: "" })
    expect(server.chatRequests.at(-1)?.body).not.toHaveProperty("suffix")
    if (kind === "openai") return
    await expect(client.completions.create({ ...ask, model })).rejects.toMatchObject({
      constructor: BadRequestError,
      param: "suffix",
      message: expect.stringContaining("does not support insert")
    })
    const { model: chosen } = await client.completions.create({ ...ask, model: "auto" })
    expect(chosen).toMatch(/^auto \(selected: ollama:coder/)
  })

  it("completes several texts, each n times, in order", async () => {
    const prompt = ["2 + 2 =", "Once"]
    const texts = [" 4, and no more.", " 4, and no more.", story.slice(4), story.slice(4)]
    server.clear()
    const { choices, usage } = await client.completions.create({ model, prompt, n: 2 })
    expect(choices.map(({ index, text }) => [index, text])).toEqual(texts.map((text, i) => [i, text]))
    expect(server.chatRequests.map(({ body }) => body.prompt).sort()).toEqual(["2 + 2 =", "2 + 2 =", "Once", "Once"])
    const alone = await Promise.all(prompt.map((prompt) => client.completions.create({ model, prompt, n: 2 })))
    expect(usage).toEqual({
      prompt_tokens: alone.reduce((sum, one) => sum + (one.usage?.prompt_tokens ?? 0), 0),
      completion_tokens: alone.reduce((sum, one) => sum + (one.usage?.completion_tokens ?? 0), 0),
      total_tokens: alone.reduce((sum, one) => sum + (one.usage?.total_tokens ?? 0), 0)
    })
    const chunks = await collect(
      await client.completions.create({
        model,
        prompt,
        n: 2,
        echo: true,
        stream: true,
        stream_options: { include_usage: true }
      })
    )
    for (const [index, text] of texts.entries()) {
      const mine = chunks.flatMap(({ choices }) => choices.filter((choice) => choice.index === index))
      expect(mine.map(({ text }) => text).join("")).toBe(prompt[index >> 1] + text)
      expect(mine.at(-1)?.finish_reason).toBe("stop")
    }
    expect(chunks.at(-1)?.usage).toEqual(usage)
    expect((await client.completions.create({ model, prompt: ["Once"] })).choices).toHaveLength(1)
  })

  it("returns log probabilities of a text", async () => {
    const text = story.slice("Once".length)
    const whole = await client.completions.create({ model, prompt: "Once", logprobs: 2 })
    const reported = whole.choices[0]?.logprobs
    expect(reported?.tokens?.join("")).toBe(text)
    expect(reported?.token_logprobs?.every((one) => one === -0.25)).toBe(true)
    expect(Object.keys(reported?.top_logprobs?.[0] ?? {})).toHaveLength(3)
    expect(reported?.top_logprobs?.[0]?.[reported.tokens?.[0] ?? ""]).toBe(-0.25)
    for (const [i, offset] of (reported?.text_offset ?? []).entries()) {
      expect(text.startsWith(reported?.tokens?.[i] ?? "?", offset)).toBe(true)
    }
    const chunks = await collect(await client.completions.create({ model, prompt: "Once", logprobs: 2, stream: true }))
    const pieces = chunks.flatMap(({ choices }) => choices).filter(({ text }) => text !== "")
    expect(pieces.flatMap(({ logprobs }) => logprobs?.tokens ?? [])).toEqual(reported?.tokens)
    expect(pieces.flatMap(({ logprobs }) => logprobs?.text_offset ?? [])).toEqual(reported?.text_offset)
    const one = await client.completions.create({ model, prompt: "Once", logprobs: 0 })
    expect(Object.keys(one.choices[0]?.logprobs?.top_logprobs?.[0] ?? {})).toHaveLength(1)
  })

  it.each<[object, string]>([
    [{ prompt: [1, 2, 3] }, "prompt"],
    [{ prompt: [[1, 2], [3]] }, "prompt"],
    [{ prompt: [] }, "prompt"],
    [{ prompt: "" }, "prompt"],
    [{ prompt: ["a", ""] }, "prompt"],
    [{ prompt: ["a", 1] }, "prompt"],
    [{ prompt: { text: "a" } }, "prompt"],
    [{ prompt: undefined }, "prompt"],
    [{ prompt: Array.from({ length: 65 }, () => "a"), n: 2 }, "prompt"],
    [{ suffix: 1 }, "suffix"],
    [{ suffix: "b", raw: true }, "suffix"],
    [{ raw: "yes" }, "raw"],
    [{ logprobs: 21 }, "logprobs"],
    [{ logprobs: true }, "logprobs"],
    [{ logprobs: 1, echo: true }, "echo"],
    [{ best_of: 3 }, "best_of"],
    [{ max_tokens: 0 }, "max_tokens"],
    [{ think: true }, "think"],
    [{ reasoning_effort: "low" }, "reasoning_effort"],
    [{ response_format: { type: "json_object" } }, "response_format"],
    [{ session: "none" }, "session"],
    [{ messages: [] }, "messages"]
  ])("refuses a text together with %j", async (wrong, param) => {
    server.clear()
    for (const stream of [false, true]) {
      const call = client.completions.create({ model, prompt: "Once", stream, ...wrong } as never)
      await expect(call).rejects.toMatchObject({ status: 400, param })
    }
    expect(server.chatRequests).toEqual([])
  })

  it("returns typed errors, each with its own status", async () => {
    await expect(client.chat.completions.create({ model: "nope", messages })).rejects.toMatchObject({
      constructor: NotFoundError,
      code: "model_not_found",
      param: "model"
    })
    await expect(client.chat.completions.create({ model: "nope", messages, stream: true })).rejects.toBeInstanceOf(
      NotFoundError
    )
    await expect(client.chat.completions.create({ model, messages, temperature: 3 })).rejects.toMatchObject({
      constructor: BadRequestError,
      param: "temperature"
    })
    await expect(client.chat.completions.create({ model, messages: [] })).rejects.toMatchObject({ param: "messages" })
    await expect(
      client.chat.completions.create({ model, messages, stream: true, functions: [] } as never)
    ).rejects.toMatchObject({ constructor: BadRequestError, param: "functions", code: "unsupported_parameter" })
  })

  it("an abort cancels the upstream request", async () => {
    await server.setBehaviour({ perToken: 50, reply: story.repeat(20) })
    try {
      const controller = new AbortController()
      const stream = await client.chat.completions.create(
        { model, messages, stream: true },
        { signal: controller.signal }
      )
      for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break
      controller.abort()
      expect(await server.chatRequests.at(-1)?.closedByClient).toBeDefined()
      const whole = client.chat.completions.create({ model, messages }, { signal: AbortSignal.timeout(100) })
      await expect(whole).rejects.toBeInstanceOf(APIError)
      expect(await server.chatRequests.at(-1)?.closedByClient).toBeDefined()
    } finally {
      await server.setBehaviour({ perToken: "each", reply: story })
    }
  })
})
