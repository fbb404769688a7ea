/*
 * MixSTE in plain JavaScript: a pose in space for every frame of a window of keypoints.
 *
 * It computes what kdpose_jax/models/mixste.py and sparse_mixste.py compute: a network on all
 * frames, or on keyframes with its output upsampled. Arrays hold float32, sums are kept in float64.
 *
 * Letters: F frames of the window, K frames that the network reads (keyframes, or all F), J joints,
 * C channels, A heads, D channels of a head. Tokens are [J, K, C], as in kdpose_jax. The kernel of
 * a linear layer lies as [out, in], so that both operands of each product are read in order.
 */

const BLOCK_EPSILON = 1e-6; // of the norms in and behind the blocks
const HEAD_EPSILON = 1e-5;

/* The error function is tabulated at n / ERF_STEPS up to ERF_END, where it is 1 to 17 digits. */
const ERF_STEPS = 64;
const ERF_END = 6;
const ERF_SLOPES = Float64Array.from({ length: ERF_STEPS * ERF_END + 1 }, (_, number) => (
  (2 / Math.sqrt(Math.PI)) * Math.exp(-((number / ERF_STEPS) ** 2))));
const ERF_VALUES = ERF_SLOPES.map((slope, number) => {
  // erf(x) = 2 / sqrt(pi) exp(-x^2) sum_n 2^n x^(2n+1) / (2n+1)!!, whose terms are all positive.
  const x = number / ERF_STEPS;
  let [term, sum] = [x, 0];
  for (let odd = 3; sum + term !== sum; odd += 2) {
    sum += term;
    term *= (2 * x * x) / odd;
  }
  return slope * sum;
});

/** erf(x), to 2e-9: the third-order Taylor polynomial around the nearest place in the table. */
function erf(x) {
  const size = Math.abs(x);
  if (!(size < ERF_END)) return Math.sign(x);
  const number = Math.round(size * ERF_STEPS);
  const at = number / ERF_STEPS;
  const d = size - at;
  const value = ERF_VALUES[number]
    + ERF_SLOPES[number] * d * (1 - at * d + ((2 * at * at - 1) * d * d) / 3);
  return x < 0 ? -value : value;
}

/** The exact GELU, x (1 + erf(x / sqrt(2))) / 2, in place. */
function gelu(values) {
  for (let n = 0; n < values.length; n += 1) {
    values[n] *= 0.5 * (1 + erf(values[n] * Math.SQRT1_2));
  }
  return values;
}

/** Adds to an array in place. */
function add(values, more) {
  for (let n = 0; n < values.length; n += 1) values[n] += more[n];
  return values;
}

/** A linear layer, rows [N, in] -> [N, out]. */
class Linear {
  /** @param find gives a parameter by its name: the kernel [in, out] and the bias [out] */
  constructor(find, name) {
    this.bias = find(`${name}/bias`);
    const kernel = find(`${name}/kernel`);
    [this.outputs, this.inputs] = [this.bias.length, kernel.length / this.bias.length];
    this.kernel = turned(kernel, this.inputs, this.outputs, 1);
  }

  apply(values) {
    const { bias, kernel, inputs, outputs } = this;
    const rows = values.length / inputs;
    const found = new Float32Array(rows * outputs);
    let row = 0;
    for (; row + 4 <= rows; row += 4) { // each number of the kernel is read once for four rows
      const [first, second] = [row * inputs, (row + 1) * inputs];
      const [third, fourth] = [(row + 2) * inputs, (row + 3) * inputs];
      for (let output = 0; output < outputs; output += 1) {
        const at = output * inputs;
        let a = bias[output];
        let b = a;
        let c = a;
        let d = a;
        for (let n = 0; n < inputs; n += 1) {
          const factor = kernel[at + n];
          a += factor * values[first + n];
          b += factor * values[second + n];
          c += factor * values[third + n];
          d += factor * values[fourth + n];
        }
        const to = row * outputs + output;
        found[to] = a;
        found[to + outputs] = b;
        found[to + 2 * outputs] = c;
        found[to + 3 * outputs] = d;
      }
    }
    for (; row < rows; row += 1) {
      for (let output = 0; output < outputs; output += 1) {
        let sum = bias[output];
        for (let n = 0; n < inputs; n += 1) {
          sum += kernel[output * inputs + n] * values[row * inputs + n];
        }
        found[row * outputs + output] = sum;
      }
    }
    return found;
  }
}

/** (x - mean) / sqrt(variance + epsilon) * scale + bias, over the channels. */
class LayerNorm {
  constructor(find, name, epsilon) {
    this.scale = find(`${name}/scale`);
    this.bias = find(`${name}/bias`);
    this.epsilon = epsilon;
  }

  apply(values) {
    const { scale, bias, epsilon } = this;
    const width = scale.length;
    const found = new Float32Array(values.length);
    for (let row = 0; row < values.length; row += width) {
      let mean = 0;
      for (let c = 0; c < width; c += 1) mean += values[row + c];
      mean /= width;
      let variance = 0;
      for (let c = 0; c < width; c += 1) variance += (values[row + c] - mean) ** 2;
      const factor = 1 / Math.sqrt(variance / width + epsilon);
      for (let c = 0; c < width; c += 1) {
        found[row + c] = (values[row + c] - mean) * factor * scale[c] + bias[c];
      }
    }
    return found;
  }
}

/**
 * One head of attention, softmax(query key^T / sqrt(D)) value, for rows that attend to each other.
 *
 * @param query where the rows lie, {values, at, step, count}: row n has `depth` numbers from
 *   at + n * step
 * @param key likewise
 * @param value likewise, with the key's count
 * @param mixed where the results go, likewise, with the query's count
 */
function attend(query, key, value, mixed, depth) {
  const [queries, keys, values, found] = [query.values, key.values, value.values, mixed.values];
  const scale = 1 / Math.sqrt(depth);
  const weights = new Float64Array(key.count);
  const sums = new Float64Array(depth);
  for (let row = 0; row < query.count; row += 1) {
    const from = query.at + row * query.step;
    let highest = -Infinity;
    for (let other = 0; other < key.count; other += 1) {
      const to = key.at + other * key.step;
      let sum = 0;
      for (let d = 0; d < depth; d += 1) sum += queries[from + d] * keys[to + d];
      weights[other] = sum * scale;
      if (weights[other] > highest) highest = weights[other];
    }
    let divisor = 0;
    sums.fill(0);
    for (let other = 0; other < key.count; other += 1) {
      const weight = Math.exp(weights[other] - highest);
      const of = value.at + other * value.step;
      divisor += weight;
      for (let d = 0; d < depth; d += 1) sums[d] += weight * values[of + d];
    }
    const to = mixed.at + row * mixed.step;
    for (let d = 0; d < depth; d += 1) found[to + d] = sums[d] / divisor;
  }
}

/** A block: x + attention(norm(x)), then x + MLP(norm(x)), for tokens [J, K, C]. */
class TransformerBlock {
  /** @param along "joints" or "frames", the tokens that attend to each other */
  constructor(find, name, { joints, read, heads }, along) {
    this.normAttention = new LayerNorm(find, `${name}/norm_attention`, BLOCK_EPSILON);
    this.qkv = new Linear(find, `${name}/attention/qkv`);
    this.out = new Linear(find, `${name}/attention/out`);
    this.normMlp = new LayerNorm(find, `${name}/norm_mlp`, BLOCK_EPSILON);
    this.hidden = new Linear(find, `${name}/mlp_hidden`);
    this.mlpOut = new Linear(find, `${name}/mlp_out`);
    this.heads = heads;
    // Groups of tokens that attend to each other; steps are counted in tokens.
    this.groups = along === "joints"
      ? { count: read, step: 1, members: joints, apart: read }
      : { count: joints, step: read, members: read, apart: 1 };
  }

  /** Changes the tokens in place. */
  apply(tokens) {
    add(tokens, this.out.apply(this.mixed(this.qkv.apply(this.normAttention.apply(tokens)))));
    const hidden = this.hidden.apply(this.normMlp.apply(tokens));
    return add(tokens, this.mlpOut.apply(gelu(hidden)));
  }

  /** Queries, keys and values side by side, [J, K, 3C] -> mixed values [J, K, C]. */
  mixed(qkv) {
    const { heads, groups } = this;
    const width = this.out.inputs;
    const depth = width / heads;
    const found = new Float32Array(qkv.length / 3);
    for (let group = 0; group < groups.count; group += 1) {
      const first = group * groups.step; // the number of the group's first token
      for (let head = 0; head < heads; head += 1) {
        const [query, key, value] = [0, 1, 2].map((part) => ({
          values: qkv,
          at: (3 * first + part) * width + head * depth,
          step: 3 * width * groups.apart,
          count: groups.members,
        }));
        const at = first * width + head * depth;
        attend(query, key, value, { values: found, at, step: width * groups.apart }, depth);
      }
    }
    return found;
  }
}

/** Embeddings at keyframes, [J, K, C] -> at all frames, [J, F, C]: learned queries attend. */
class CrossAttentionRecovery {
  constructor(find, name, { joints, read, heads }) {
    this.queries = find(`${name}/queries`);
    this.query = new Linear(find, `${name}/query`).apply(this.queries);
    this.key = new Linear(find, `${name}/key`);
    this.value = new Linear(find, `${name}/value`);
    this.out = new Linear(find, `${name}/out`);
    Object.assign(this, { joints, read, heads });
  }

  apply(tokens) {
    const { joints, read, heads } = this;
    const width = this.out.inputs;
    const frames = this.queries.length / width;
    const [keys, values] = [this.key.apply(tokens), this.value.apply(tokens)];
    const mixed = new Float32Array(joints * frames * width);
    for (let joint = 0; joint < joints; joint += 1) {
      for (let head = 0; head < heads; head += 1) {
        const within = (head * width) / heads;
        const at = joint * read * width + within;
        attend(
          { values: this.query, at: within, step: width, count: frames },
          { values: keys, at, step: width, count: read },
          { values, at, step: width },
          { values: mixed, at: joint * frames * width + within, step: width },
          width / heads,
        );
      }
    }
    const found = this.out.apply(mixed);
    for (let n = 0; n < found.length; n += 1) found[n] += this.queries[n % this.queries.length];
    return found;
  }
}

/** Turns [rows, columns, width] into [columns, rows, width]. */
function turned(values, rows, columns, width) {
  const found = new Float32Array(values.length);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const from = (row * columns + column) * width;
      found.set(values.subarray(from, from + width), (column * rows + row) * width);
    }
  }
  return found;
}

/** Applies a matrix [F, K] to the frames of values [J, K, C]. */
function upsampled(matrix, values, { frames, read, joints }) {
  const width = values.length / (joints * read);
  const found = new Float32Array(joints * frames * width);
  for (let joint = 0; joint < joints; joint += 1) {
    for (let frame = 0; frame < frames; frame += 1) {
      for (let c = 0; c < width; c += 1) {
        let sum = 0;
        for (let k = 0; k < read; k += 1) {
          sum += matrix[frame * read + k] * values[(joint * read + k) * width + c];
        }
        found[(joint * frames + frame) * width + c] = sum;
      }
    }
  }
  return found;
}

/**
 * The matrix [F, K] that interpolates linearly in time between keyframes.
 *
 * @param ends before the first and after the last keyframe, "hold" the value or "extrapolate" it
 */
function interpolationMatrix(keyframes, frames, ends) {
  const count = keyframes.length;
  const matrix = new Float32Array(frames * count);
  if (count === 1) return matrix.fill(1);
  for (let frame = 0; frame < frames; frame += 1) {
    const time = ends === "hold"
      ? Math.min(Math.max(frame, keyframes[0]), keyframes[count - 1]) : frame;
    let left = 0; // the last keyframe at or before the time that has another one behind it
    while (left < count - 2 && keyframes[left + 1] <= time) left += 1;
    const share = (time - keyframes[left]) / (keyframes[left + 1] - keyframes[left]);
    matrix[frame * count + left] = 1 - share;
    matrix[frame * count + left + 1] = share;
  }
  return matrix;
}

/**
 * In every group of frames the one with the smallest summed distance to the others.
 *
 * @param input the window, [F, J, 2]
 * @param groups for every keyframe the frames that it may be
 */
function mostCorrelated(input, groups, joints) {
  const apart = (one, other) => {
    let sum = 0;
    for (let joint = 0; joint < joints; joint += 1) {
      const [a, b] = [2 * (one * joints + joint), 2 * (other * joints + joint)];
      sum += Math.hypot(input[a] - input[b], input[a + 1] - input[b + 1]);
    }
    return sum;
  };
  return groups.map((group) => {
    const sums = group.map((one) => group.reduce((sum, other) => sum + apart(one, other), 0));
    return group[sums.indexOf(Math.min(...sums))];
  });
}

/** The network. */
class MixSTE {
  /**
   * @param sizes what plain.py writes: {frames, joints, root, depth, heads, groups, upsampling,
   *   ends, parameters}. `groups` has for every frame that is read the frames that it may be, and
   *   `parameters` has the name and the length of each, in the order in which they lie.
   * @param values all parameters, one behind the other
   */
  constructor(sizes, values) {
    const at = new Map();
    let end = 0;
    for (const [name, length] of sizes.parameters) {
      at.set(name, [end, end + length]);
      end += length;
    }
    const find = (name) => values.subarray(...at.get(name));
    this.sizes = { ...sizes, read: sizes.groups.length };
    this.embedding = new Linear(find, "joint_embedding");
    this.spatialPosition = find("spatial_position"); // [J, C]
    this.temporalPosition = find("temporal_position"); // [K, C]
    const blocks = (kind, along) => Array.from({ length: sizes.depth }, (_, layer) => (
      new TransformerBlock(find, `${kind}_block_${layer}`, this.sizes, along)));
    this.spatialBlocks = blocks("spatial", "joints");
    this.temporalBlocks = blocks("temporal", "frames");
    this.spatialNorm = new LayerNorm(find, "spatial_norm", BLOCK_EPSILON);
    this.temporalNorm = new LayerNorm(find, "temporal_norm", BLOCK_EPSILON);
    this.headNorm = new LayerNorm(find, "head_norm", HEAD_EPSILON);
    this.head = new Linear(find, "head");
    if (sizes.upsampling === "learned") this.matrix = find("upsampler/matrix");
    if (sizes.upsampling === "cross_attn") {
      this.recovery = new CrossAttentionRecovery(find, "upsampler", this.sizes);
    }
  }

  /** Lifts a window: [F, J, 2] in screen units -> [F, J, 3] in metres, with the root at zero. */
  lift(input) {
    const { groups, joints, frames, root } = this.sizes;
    const keyframes = groups.every((group) => group.length === 1)
      ? groups.flat() : mostCorrelated(input, groups, joints);
    const poses = turned(this.poses(this.encoded(input, keyframes), keyframes), joints, frames, 3);
    for (let frame = 0; frame < frames; frame += 1) {
      const at = 3 * (frame * joints + root);
      poses.fill(0, at, at + 3);
    }
    return poses;
  }

  /** The last embeddings of the frames that are read, [J, K, C]. */
  encoded(input, keyframes) {
    const { joints, read } = this.sizes;
    const width = this.embedding.outputs;
    const taken = new Float32Array(2 * joints * read); // [K, J, 2]
    keyframes.forEach((frame, k) => taken.set(
      input.subarray(2 * joints * frame, 2 * joints * (frame + 1)), 2 * joints * k));
    let tokens = this.embedding.apply(turned(taken, read, joints, 2));
    for (let n = 0; n < tokens.length; n += 1) {
      tokens[n] += this.spatialPosition[Math.floor(n / (read * width)) * width + (n % width)];
    }
    this.spatialBlocks.forEach((block, layer) => {
      tokens = this.spatialNorm.apply(block.apply(tokens));
      if (layer === 0) { // the other layers have no position
        for (let n = 0; n < tokens.length; n += 1) {
          tokens[n] += this.temporalPosition[n % (read * width)];
        }
      }
      tokens = this.temporalNorm.apply(this.temporalBlocks[layer].apply(tokens));
    });
    return tokens;
  }

  /** The poses of all frames, [J, F, 3], from the last embeddings. */
  poses(tokens, keyframes) {
    const { upsampling, frames, ends } = this.sizes;
    const decode = (embeddings) => this.head.apply(this.headNorm.apply(embeddings));
    if (upsampling === "none") return decode(tokens);
    if (upsampling === "cross_attn") return decode(this.recovery.apply(tokens));
    const matrix = this.matrix || interpolationMatrix(keyframes, frames, ends);
    if (upsampling === "linear_feat") return decode(upsampled(matrix, tokens, this.sizes));
    return upsampled(matrix, decode(tokens), this.sizes);
  }
}

const runtime = {
  /**
   * Opens a network; see `openNetwork` in litert.js.
   *
   * @param sizes as `MixSTE` takes them
   * @param parameters the bytes of all parameters, float32
   */
  async openNetwork({ sizes, parameters }) {
    const network = new MixSTE(sizes, new Float32Array(parameters.buffer));
    return (input) => network.lift(input);
  },
};
