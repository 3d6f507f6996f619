// SPDX-License-Identifier: Apache-2.0
// BNORM_TESTS_TSAN: 1 under ThreadSanitizer, else 0. BNORM_TESTS_SANITIZED: 1 under it or AddressSanitizer, else 0.
#pragma once

#if defined(__has_feature)
#define BNORM_TESTS_CLANG_HAS(feature) __has_feature(feature)
#else
#define BNORM_TESTS_CLANG_HAS(feature) 0
#endif

#if defined(__SANITIZE_THREAD__) || BNORM_TESTS_CLANG_HAS(thread_sanitizer)
#define BNORM_TESTS_TSAN 1
#else
#define BNORM_TESTS_TSAN 0
#endif

#if BNORM_TESTS_TSAN || defined(__SANITIZE_ADDRESS__) || BNORM_TESTS_CLANG_HAS(address_sanitizer)
#define BNORM_TESTS_SANITIZED 1
#else
#define BNORM_TESTS_SANITIZED 0
#endif
