#include "tokenizer/decoder.hpp"

#include "tokenizer/unicode.hpp"

namespace tokenworks::tokenizer {

std::string take_characters(std::string& held) {
  std::string text;
  std::string_view rest = held;
  while (!rest.empty()) {
    const Utf8Step step = utf8_step(rest);
    if (step.kind == Utf8Step::Kind::incomplete) break;
    text += step.kind == Utf8Step::Kind::character ? rest.substr(0, step.length) : kReplacement;
    rest.remove_prefix(step.length);
  }
  held.erase(0, held.size() - rest.size());
  return text;
}

namespace {

// As take_characters, but an ill-formed part is one U+FFFD per byte.
std::string take_bytewise(std::string& held) {
  std::string text;
  std::string_view rest = held;
  while (!rest.empty()) {
    const Utf8Step step = utf8_step(rest);
    if (step.kind == Utf8Step::Kind::incomplete) break;
    const std::size_t length = step.kind == Utf8Step::Kind::character ? step.length : 1;
    text += step.kind == Utf8Step::Kind::character ? rest.substr(0, length) : kReplacement;
    rest.remove_prefix(length);
  }
  held.erase(0, held.size() - rest.size());
  return text;
}

}  // namespace

// What `held` is when no byte can follow it.
std::string Decoder::flush(DecodeState& state) const {
  std::string text;
  if (state.held.empty()) return text;
  switch (spec_.joining) {
    case DecoderSpec::Joining::bytes:
      text = kReplacement;  // one begun character
      break;
    case DecoderSpec::Joining::runs:
      if (valid_utf8(state.held)) {
        text = state.held;
        break;
      }
      [[fallthrough]];
    case DecoderSpec::Joining::characters:
      for (std::size_t i = 0; i < state.held.size(); ++i) text += kReplacement;
      break;
  }
  state.held.clear();
  return text;
}

std::string Decoder::strip(DecodeState& state, std::string text, bool piece) const {
  if (state.strip < 0) state.strip = spec_.strip_count;
  while (state.strip > 0 && !text.empty()) {
    if (!text.starts_with(spec_.strip) || (spec_.strip_pieces_only && !piece)) {
      state.strip = 0;
    } else {
      text.erase(0, spec_.strip.size());
      --state.strip;
    }
  }
  return text;
}

std::string Decoder::next(DecodeState& state, TokenId id, bool with_control) const {
  const auto i = static_cast<std::size_t>(id);
  if (id < 0 || i >= spec_.text.size() || (spec_.control[i] && !with_control)) return {};
  std::string add = state.first && !spec_.first_text.empty() ? spec_.first_text[i] : spec_.text[i];
  if (!state.first) add.insert(0, spec_.between);
  state.first = false;
  if (spec_.joining == DecoderSpec::Joining::bytes) {
    state.held += add;
    return strip(state, take_characters(state.held), true);
  }
  if (spec_.is_byte[i]) {
    state.held += add;
    if (spec_.joining == DecoderSpec::Joining::runs) return {};
    return strip(state, take_bytewise(state.held), false);
  }
  std::string text = strip(state, flush(state), false);
  return text + strip(state, std::move(add), true);
}

std::string Decoder::end(DecodeState& state) const { return strip(state, flush(state), false); }

}  // namespace tokenworks::tokenizer
