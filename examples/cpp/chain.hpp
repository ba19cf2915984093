// The accept step of a chain of independent proposals, with random numbers of its own; and a refusal in one line.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>

[[noreturn]] inline void refuse(const std::string &said) {
    std::cerr << "error: " << said << "\n";
    std::exit(2);
}

// Averages of |m| and phi^2 over a chain: a draw is taken with probability min(1, w'/w), log w = -S - log q, and a
// rejection counts the old field again.
class Chain {
  public:
    Chain(std::size_t volume, unsigned long long seed) : volume_(volume), random_(seed) {}

    void offer(double action, double log_q, const double *phi) {
        const double fresh = -action - log_q;
        if (std::isnan(fresh)) refuse("draw " + std::to_string(offered_) + " of the pool is damaged");
        // the first draw is taken as it is; one that blew up has log_q = +inf, hence weight zero
        if (offered_ == 0 || std::log(uniform_(random_)) < fresh - log_w_) {
            double m = 0.0, square = 0.0;
            for (std::size_t x = 0; x < volume_; ++x) {
                m += phi[x];
                square += phi[x] * phi[x];
            }
            log_w_ = fresh;
            abs_m_ = std::fabs(m) / static_cast<double>(volume_);
            phi2_ = square / static_cast<double>(volume_);
            accepted_ += offered_ > 0;
        }
        ++offered_;
        sum_abs_m_ += abs_m_;
        sum_phi2_ += phi2_;
    }

    void print() const {
        const auto n = static_cast<double>(offered_);
        std::printf("n %llu\nacceptance %.6f\nabs_m %.8f\nphi2 %.8f\n", offered_,
                    static_cast<double>(accepted_) / (n - 1.0), sum_abs_m_ / n, sum_phi2_ / n);
    }

  private:
    std::size_t volume_;
    std::mt19937_64 random_;
    std::uniform_real_distribution<double> uniform_{0.0, 1.0};
    double log_w_ = 0.0, abs_m_ = 0.0, phi2_ = 0.0, sum_abs_m_ = 0.0, sum_phi2_ = 0.0;
    unsigned long long offered_ = 0, accepted_ = 0;
};
