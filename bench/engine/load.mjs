// Loads the library and a model, and ends: what a program of nothing else takes.
import { getLlama, LlamaLogLevel } from "node-llama-cpp"

const [modelPath, contextSize, sequences, threads] = process.argv.slice(2)
const llama = await getLlama({ gpu: false, build: "never", progressLogs: false, logLevel: LlamaLogLevel.disabled })
const model = await llama.loadModel({ modelPath })
await model.createContext({ contextSize: Number(contextSize), sequences: Number(sequences), threads: Number(threads) })
process.exit()
